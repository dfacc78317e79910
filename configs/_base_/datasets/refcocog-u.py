# RefCOCOg (UMD split) in the REFER layout; see README.md here for the files.
_base_ = './pipelines_640.py'

text_model = '{{$MMVG_TEXT_MODEL:bert-base-uncased}}'
max_query_len = 40  # longer expressions than in the other sets

finish = [
    dict(type='TokenizeQueries', tokenizer=text_model, max_query_len=max_query_len),
    dict(type='PackGroundingInputs'),
]
train_pipeline = _base_.train_transforms + finish
test_pipeline = _base_.test_transforms + finish
tta_pipeline = _base_.tta_load + [
    dict(type='TestTimeAug', transforms=_base_.tta_views + [[step] for step in finish])
]
tta_model = dict(type='GroundingTTAModel')

refer = dict(
    type='ReferringExpressionDataset',
    data_root='{{$MMVG_DATA_ROOT:data/coco/}}',
    ann_file='refcocog/refs(umd).p',
    instances_file='refcocog/instances.json',
    data_prefix=dict(img='train2014/'),
    truncate_boxes=True,
)  # as the released code does, for training and evaluation

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**refer, split='train', name='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**refer, split='val', name='val', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=16,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(**refer, split='val', name='val', test_mode=True, pipeline=test_pipeline),
            dict(**refer, split='test', name='test', test_mode=True, pipeline=test_pipeline),
        ],
    ),
)

# protocol='canvas' rates on the padded network input, as the released code does.
val_evaluator = dict(type='GroundingMetric')
test_evaluator = dict(type='GroundingMetric')
