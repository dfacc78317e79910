# ReferItGame from TransVG's index files; see README.md here for the files.
_base_ = './grounding_640.py'

referit = dict(
    type='ReferItGameDataset',
    layout='transvg',
    data_root='{{$MMVG_REFERIT_ROOT:data/referit/}}',
    data_prefix=dict(img='images/'),
    truncate_boxes=True,  # as the released code does, for training and evaluation
)
test_pipeline = _base_.test_pipeline

train_dataloader = dict(
    dataset=dict(
        **referit, ann_file='referit_train.pth', name='train', pipeline=_base_.train_pipeline
    )
)
val_dataloader = dict(
    dataset=dict(
        **referit, ann_file='referit_val.pth', name='val', test_mode=True, pipeline=test_pipeline
    )
)
test_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                **referit,
                ann_file='referit_val.pth',
                name='val',
                test_mode=True,
                pipeline=test_pipeline,
            ),
            dict(
                **referit,
                ann_file='referit_test.pth',
                name='test',
                test_mode=True,
                pipeline=test_pipeline,
            ),
        ],
    )
)
