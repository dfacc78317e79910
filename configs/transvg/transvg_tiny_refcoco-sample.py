# Overfits a handful of real pictures on a CPU: shows that real annotations, pictures and text go
# through. MMVG_SAMPLES/refcoco holds images/ and
# official_layout_rebuilt/{refcoco,refcoco+,refcocog}/ in the REFER layout.
_base_ = ['../_base_/models/transvg_tiny.py', '../_base_/default_runtime.py']

data_root = '{{$MMVG_SAMPLES:../shared/samples}}/refcoco/'
vocabulary = (
    'work_dirs/refcoco-sample/vocab.txt'  # made from the expressions by tools/misc/build_vocab.py
)
canvas = 128
max_query_len = 40

load = [dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations')]
pack = [
    dict(type='ResizeSide', scales=[canvas], side='long'),
    dict(type='PlaceOnCanvas', size=canvas, position='centre'),
    dict(type='TokenizeQueries', tokenizer=vocabulary, max_query_len=max_query_len),
    dict(type='PackGroundingInputs'),
]
tta_pipeline = load + [
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='FlipWithText', prob=0.0), dict(type='FlipWithText', prob=1.0, swap='word')],
            *[[transform] for transform in pack],
        ],
    )
]
tta_model = dict(type='GroundingTTAModel')

# One sample per picture, with all its expressions as queries: they share one decoding and one
# encoding.
expressions = dict(
    type='ReferringExpressionDataset',
    data_root=data_root,
    data_prefix=dict(img='images/'),
    name='val',
    group_by_image=True,
    pipeline=load + pack,
)
sample = dict(
    type='ConcatDataset',
    datasets=[
        dict(
            **expressions,
            ann_file='official_layout_rebuilt/refcoco/refs(unc).p',
            instances_file='official_layout_rebuilt/refcoco/instances.json',
            split=['train', 'val', 'testA', 'testB'],
        ),
        dict(
            **expressions,
            ann_file='official_layout_rebuilt/refcoco+/refs(unc).p',
            instances_file='official_layout_rebuilt/refcoco+/instances.json',
            split=['val', 'testA', 'testB'],
        ),
        dict(
            **expressions,
            ann_file='official_layout_rebuilt/refcocog/refs(umd).p',
            instances_file='official_layout_rebuilt/refcocog/instances.json',
            split=['val'],
        ),
    ],
)
train_dataloader = dict(
    batch_size=6,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=sample,
)
val_dataloader = dict(
    batch_size=8, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False), dataset=sample
)
test_dataloader = val_dataloader
val_evaluator = dict(type='GroundingMetric')
test_evaluator = dict(type='GroundingMetric')

model = dict(
    backbone=dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)),
    neck=dict(in_channels=[128]),
    language_model=dict(config=dict(vocab_size=2000, max_position_embeddings=64)),
    bbox_head=dict(max_query_len=max_query_len),
)

max_epochs = 150
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.0,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(interval=10))
randomness = dict(seed=0)
