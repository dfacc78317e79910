# Your own data: one JSON object per line, see README.md in this folder.
_base_ = './grounding_640_long.py'

jsonl = dict(
    type='GroundingJSONLDataset',
    data_root='{{$MMVG_CUSTOM_ROOT:data/custom/}}',
    data_prefix=dict(img='images/'),
)

train_dataloader = dict(
    dataset=dict(**jsonl, ann_file='train.jsonl', pipeline=_base_.train_pipeline)
)
val_dataloader = dict(
    dataset=dict(
        **jsonl,
        ann_file='val.jsonl',
        name='val',
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader
