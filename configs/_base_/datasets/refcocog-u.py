# RefCOCOg (UMD split) in the REFER layout; see README.md here for the files.
_base_ = './grounding_640_long.py'

refer = dict(
    type='ReferringExpressionDataset',
    data_root='{{$MMVG_DATA_ROOT:data/coco/}}',
    ann_file='refcocog/refs(umd).p',
    instances_file='refcocog/instances.json',
    data_prefix=dict(img='train2014/'),
    truncate_boxes=True,  # as the released code does, for training and evaluation
)
test_pipeline = _base_.test_pipeline

train_dataloader = dict(
    dataset=dict(**refer, split='train', name='train', pipeline=_base_.train_pipeline)
)
val_dataloader = dict(
    dataset=dict(**refer, split='val', name='val', test_mode=True, pipeline=test_pipeline)
)
test_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(**refer, split='val', name='val', test_mode=True, pipeline=test_pipeline),
            dict(**refer, split='test', name='test', test_mode=True, pipeline=test_pipeline),
        ],
    )
)
