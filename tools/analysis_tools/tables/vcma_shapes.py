# What VCMA's settings are worth on generated videos, for ../train_table.py: relations (beta), features of
# boxes when they are linked (alpha), what is ours. The detector is trained and run first.
_SPLITS = 'train', 'val', 'test'
_BETAS = 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 32.0, 64.0  # the config has 16
_ALPHAS = 0.0, 1.0  # 0.5


def _alpha(value):
    keys = [f'{split}_dataloader.dataset.pipeline.1.linker.alpha' for split in _SPLITS]
    return {key: value for key in (*keys, 'model.linker.alpha')}


config = 'vcma/vcma_shapes'
initial = dict(config='vcma/fcos_shapes_video')
prepare = [
    [
        'analysis_tools/extract_video_regions.py',
        'vcma/fcos_shapes_video',
        '{checkpoint}',
        'vcma/vcma_shapes',
        '--out',
        'work_dirs/shapes_video_regions',  # where the config looks for them
        '--batch-size',
        '32',
    ]
]
weights = 'best'
columns = {
    f'{kind}: {name}': f'test/{key.format(kind=kind)}'
    for kind in ('declarative', 'interrogative')
    for name, key in (
        ('p m_vIoU', 'p/{kind}/m_vIoU'),
        ('p m_tIoU', 'p/{kind}/m_tIoU'),
        ('q m_vIoU', 'q/{kind}/m_vIoU'),
        ('q m_tIoU', 'q/{kind}/m_tIoU'),
        ('whole segment m_tIoU', '{kind}/segment/m_tIoU'),
        ("p's tube, whole segment m_vIoU", 'p/{kind}/own_tube_segment/m_vIoU'),
        ('oracle tube m_vIoU', '{kind}/oracle_tube/m_vIoU'),
    )
}


def _head(**changes):
    return dict(model=dict(tube_head=changes))


rows = {
    'beta 0': _head(beta=0.0),  # entities only, the control
    'full': dict(),
    # What is not in the paper, each alone left out.
    'any clips': dict(model=dict(span='likeliest', tube_head=dict(temporal='free'))),
    'any share of clips': _head(event_share=None),
    'relative motion, one clip': _head(own_motion=False, relation_context=0),
    **{f'beta {value:g}': _head(beta=value) for value in _BETAS},
    **{f'alpha {value:g}': _alpha(value) for value in _ALPHAS},
}
