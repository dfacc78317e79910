# Pictures of up to 640 px for the released TransVG's recipe: its augmentation (spec 1.3) with its official
# quirks, and loaders, to which a data set adds its `dataset`.
text_model = '{{$MMVG_TEXT_MODEL:bert-base-uncased}}'
max_query_len = 20

side_lengths = [640, 608, 576, 544, 512, 480, 448]

train_transforms = [
    dict(type='LoadGroundingImage'),
    dict(type='LoadQueryAnnotations'),
    dict(
        type='LocationAwareSelect',
        prob=0.5,
        match='substring',
        default=[dict(type='ResizeSide', scales=side_lengths, side='long')],
        cropped=[
            dict(type='ResizeSide', scales=[400, 500, 600], side='short'),
            dict(type='RandomSizeCrop', min_size=384, max_size=600, check='official'),  # or 'fixed'
            dict(type='ResizeSide', scales=side_lengths, side='long'),
        ],
    ),
    dict(type='PillowColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, prob=0.8),
    dict(type='FlipWithText', prob=0.5, swap='substring'),  # or 'word'
    dict(type='PlaceOnCanvas', size=640, position='random'),
]
test_transforms = [
    dict(type='LoadGroundingImage'),
    dict(type='LoadQueryAnnotations'),
    dict(type='ResizeSide', scales=[640], side='long'),
    dict(type='PlaceOnCanvas', size=640, position='centre'),
]
# Test-time augmentation: the picture as it is and mirrored, with the words of the query swapped.
tta_load = test_transforms[:2]
tta_views = [
    [dict(type='FlipWithText', prob=0.0), dict(type='FlipWithText', prob=1.0, swap='word')],
    *[[step] for step in test_transforms[2:]],
]

finish = [
    dict(type='TokenizeQueries', tokenizer=text_model, max_query_len=max_query_len),
    dict(type='PackGroundingInputs'),
]
train_pipeline = train_transforms + finish
test_pipeline = test_transforms + finish
tta_pipeline = tta_load + [
    dict(type='TestTimeAug', transforms=tta_views + [[step] for step in finish])
]
tta_model = dict(type='GroundingTTAModel')

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = dict(
    batch_size=16, num_workers=4, sampler=dict(type='DefaultSampler', shuffle=False)
)

# protocol='canvas' rates on the padded network input, as the released code does.
val_evaluator = dict(type='GroundingMetric')
test_evaluator = dict(type='GroundingMetric')
