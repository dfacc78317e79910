# The released TransVG's augmentation (spec 1.3) up to tokenisation, with its official quirks.
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
