# Pictures for ReIR: the short side 600, the long one 1000 at most, nothing random; and loaders, to which a
# data set adds its `dataset`. Training does not load annotated boxes.
load = [dict(type='LoadGroundingImage')]
load_truth = load + [dict(type='LoadQueryAnnotations')]
resize = [dict(type='Resize', scale=(1000, 600), keep_ratio=True)]
pack = [dict(type='PackGroundingInputs')]
max_proposals = 50

train_dataloader = dict(
    batch_size=40,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
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

val_evaluator = dict(type='PhraseGroundingMetric')
test_evaluator = dict(type='PhraseGroundingMetric')
