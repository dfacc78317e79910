# Flickr30k Entities, one sample per phrase, from TransVG's index files; see README.md here for the files.
_base_ = './grounding_640.py'

flickr = dict(
    type='Flickr30kEntitiesDataset',
    layout='transvg',
    data_root='{{$MMVG_FLICKR30K_ROOT:data/flickr30k/}}',
    data_prefix=dict(img='flickr30k-images/'),
    truncate_boxes=True,  # as the released code does, for training and evaluation
)
test_pipeline = _base_.test_pipeline

train_dataloader = dict(
    dataset=dict(
        **flickr, ann_file='flickr_train.pth', name='train', pipeline=_base_.train_pipeline
    )
)
val_dataloader = dict(
    dataset=dict(
        **flickr, ann_file='flickr_val.pth', name='val', test_mode=True, pipeline=test_pipeline
    )
)
test_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                **flickr,
                ann_file='flickr_val.pth',
                name='val',
                test_mode=True,
                pipeline=test_pipeline,
            ),
            dict(
                **flickr,
                ann_file='flickr_test.pth',
                name='test',
                test_mode=True,
                pipeline=test_pipeline,
            ),
        ],
    )
)
