# QRNet's architecture at a size that learns on a CPU in minutes: 64 px canvas, 8 x 8 + 4 x 4 visual
# tokens. The head is that of the tiny TransVG.
_base_ = './transvg_tiny.py'

gate_cfg = dict(rank=8, reduction=4)
model = dict(
    type='QRNet',
    backbone=dict(
        _delete_=True,
        type='QueryModulatedSwin',
        embed_dims=32,
        patch_size=4,
        strides=(4, 2),
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        mlp_ratio=2,
        out_indices=(0, 1),
        drop_path_rate=0.0,
        # Windows of 4 fit without padding, which is all that tells a plain Swin where it is.
        use_abs_pos_embed=True,
        pretrain_img_size=64,
        text_channels=64,
        gate_cfg=gate_cfg,
    ),
    neck=dict(
        _delete_=True,
        type='QueryModulatedFPN',
        in_channels=[32, 64],
        out_channels=64,
        num_outs=3,
        text_channels=64,
        gate_cfg=gate_cfg,
    ),
    # [CLS] controls the gates: from the start it has to differ from query to query.
    language_model=dict(config=dict(num_hidden_layers=2, initializer_range=0.2)),
    visual_encoder=dict(
        _delete_=True, type='PyramidVisualEncoder', embed_dims=64, num_levels=3, num_used=2
    ),
    bbox_head=dict(num_visual_tokens=80),
)
