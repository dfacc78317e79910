# Your own data: one JSON object per line, see README.md in this folder.
_base_ = './pipelines_640.py'

data_root = '{{$MMVG_CUSTOM_ROOT:data/custom/}}'
text_model = '{{$MMVG_TEXT_MODEL:bert-base-uncased}}'
max_query_len = 40

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

jsonl = dict(type='GroundingJSONLDataset', data_root=data_root, data_prefix=dict(img='images/'))

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**jsonl, ann_file='train.jsonl', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**jsonl, ann_file='val.jsonl', name='val', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='GroundingMetric')
test_evaluator = dict(type='GroundingMetric')
