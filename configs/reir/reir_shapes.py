_base_ = [
    '../_base_/models/reir_tiny.py',
    '../_base_/datasets/shapes_captions.py',
    '../_base_/default_runtime.py',
]

max_epochs = 20
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', milestones=[14, 18], gamma=0.1),
]
randomness = dict(seed=0)
