# Generated scenes: nothing on disk. All shapes of a scene are asked for at once (K = number of
# shapes).
_base_ = './shapes_loaders.py'

text_model = 'builtin:shapes'
max_query_len = 14  # the longest expression has 9 words, and [CLS] and [SEP]

train_pipeline = [
    dict(type='LoadGroundingImage'),
    dict(type='LoadQueryAnnotations'),
    dict(type='FlipWithText', prob=0.5, swap='word'),
    dict(type='TokenizeQueries', tokenizer=text_model, max_query_len=max_query_len),
    dict(type='PackGroundingInputs'),
]
# The generated pictures pass the resize and the canvas unchanged; other pictures are made to fit.
finish = [
    dict(type='ResizeSide', scales=[64], side='long'),
    dict(type='PlaceOnCanvas', size=64, position='centre'),
    dict(type='TokenizeQueries', tokenizer=text_model, max_query_len=max_query_len),
    dict(type='PackGroundingInputs'),
]
load = [dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations')]
test_pipeline = load + finish
tta_views = [dict(type='FlipWithText', prob=0.0), dict(type='FlipWithText', prob=1.0, swap='word')]
tta_pipeline = load + [
    dict(type='TestTimeAug', transforms=[tta_views, *[[step] for step in finish]])
]
tta_model = dict(type='GroundingTTAModel')

train_dataloader = dict(
    dataset=dict(
        type='ShapesGroundingDataset', split='train', num_scenes=16000, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='ShapesGroundingDataset',
        split='val',
        name='val',
        num_scenes=500,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='ShapesGroundingDataset',
                split='test',
                name='test',
                num_scenes=1000,
                test_mode=True,
                pipeline=test_pipeline,
            ),
            # The control: the same scenes, every query replaced by a constant.
            dict(
                type='ShapesGroundingDataset',
                split='test',
                name='text-blind',
                num_scenes=1000,
                test_mode=True,
                constant_query='the object',
                pipeline=test_pipeline,
            ),
        ],
    ),
)

val_evaluator = dict(type='GroundingMetric')
test_evaluator = dict(type='GroundingMetric')
