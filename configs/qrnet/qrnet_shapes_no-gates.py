# Ablation: a plain Swin and a soft-downsampling FPN, the query reaches the fusion only.
_base_ = './qrnet_shapes.py'

gate_cfg = dict(use_channel=False, use_spatial=False)
model = dict(backbone=dict(gate_cfg=gate_cfg), neck=dict(gate_cfg=gate_cfg))
optim_wrapper = dict(
    paramwise_cfg=dict(
        groups=dict(_delete_=True, visual=dict(prefixes=['backbone', 'neck'], lr=2e-4))
    )
)
