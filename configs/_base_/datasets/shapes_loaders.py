# Loaders of generated scenes, to which a data set adds its `dataset`.
train_dataloader = dict(
    batch_size=32,
    num_workers=0,  # making a picture costs less than handing it over
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
