# Generated captions with the boxes of a poor detector: nothing on disk. Training reads no annotated box.
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
    num_workers=0,  # making a picture costs less than handing it over
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ShapesCaptionDataset', split='train', num_scenes=8000, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
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
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesCaptionDataset',
        split='test',
        name='test',
        num_scenes=1000,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(type='GroundingMetric')
test_evaluator = dict(type='GroundingMetric')
