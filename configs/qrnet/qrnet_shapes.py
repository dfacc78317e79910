_base_ = [
    '../_base_/models/qrnet_tiny.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/shapes_5e.py',
    '../_base_/default_runtime.py',
]

# As in the recipes of QRNet, what the detector has learned moves more slowly than the rest.
optim_wrapper = dict(
    constructor='GroupOptimWrapperConstructor',
    paramwise_cfg=dict(
        groups=dict(
            visual=dict(prefixes=['backbone', 'neck'], lr=2e-4),
            gates=dict(prefixes=['backbone.gates', 'neck.gates'], lr=1e-3),
        )
    ),
)
# From tools/train.py configs/qrnet/fcos_swin_shapes.py.
load_from = 'work_dirs/fcos_swin_shapes/epoch_1.pth'
