# Generated captions with the boxes of a poor detector: nothing on disk. Training reads no annotated box.
_base_ = './shapes_loaders.py'

words = [
    'a', 'circle', 'square', 'triangle', 'red', 'green', 'blue', 'yellow', 'plain', 'striped',
    'small', 'large', 'left', 'right', 'of', 'above', 'below',
]  # fmt: skip
encode = dict(
    type='EncodePhrases',
    caption_vocab=words,
    phrase_vocab=words,
    table_words=['circle', 'square', 'triangle'],
)
finish = [dict(type='LoadBoxProposals'), encode, dict(type='PackGroundingInputs')]
train_pipeline = [dict(type='LoadGroundingImage')] + finish
test_pipeline = [dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations')] + finish

train_dataloader = dict(
    batch_size=40,
    dataset=dict(
        type='ShapesCaptionDataset', split='train', num_scenes=8000, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='ShapesCaptionDataset',
        split='val',
        name='val',
        num_scenes=500,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type='ShapesCaptionDataset',
        split='test',
        name='test',
        num_scenes=1000,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(type='PhraseGroundingMetric', iou_thrs=(0.5,))
test_evaluator = dict(type='PhraseGroundingMetric')
