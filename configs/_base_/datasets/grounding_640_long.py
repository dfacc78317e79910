# For data sets with longer expressions.
_base_ = './grounding_640.py'

max_query_len = 40

finish = [
    dict(type='TokenizeQueries', tokenizer=_base_.text_model, max_query_len=max_query_len),
    dict(type='PackGroundingInputs'),
]
train_pipeline = _base_.train_transforms + finish
test_pipeline = _base_.test_transforms + finish
tta_pipeline = _base_.tta_load + [
    dict(type='TestTimeAug', transforms=_base_.tta_views + [[step] for step in finish])
]
