_base_ = [
    '../_base_/models/qrnet_tiny.py',
    '../_base_/datasets/shapes.py',
    '../_base_/default_runtime.py',
]

max_epochs = 5
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
    # As in the recipes of QRNet, what the detector has learned moves more slowly than the rest.
    constructor='GroupOptimWrapperConstructor',
    paramwise_cfg=dict(
        groups=dict(
            visual=dict(prefixes=['backbone', 'neck'], lr=2e-4),
            gates=dict(prefixes=['backbone.gates', 'neck.gates'], lr=1e-3),
        )
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.0,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
randomness = dict(seed=0)
# From tools/train.py configs/qrnet/fcos_swin_shapes.py.
load_from = 'work_dirs/fcos_swin_shapes/epoch_1.pth'
