# Ours: the channel gates learn to see the picture, not the query alone (README.md).
_base_ = './qrnet_swin_refcoco.py'

gate_cfg = dict(v_init=0.02)
model = dict(backbone=dict(gate_cfg=gate_cfg), neck=dict(gate_cfg=gate_cfg))
