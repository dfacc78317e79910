# QRNet as released: Swin-S and a soft-downsampling FPN under the query's control, bert-base, fusion
# and head of TransVG, 640 x 640 canvas with 20 x 20 + 10 x 10 visual tokens (spec 2.2 to 2.6).
# MMVG_TEXT_MODEL: a BERT folder, where the Hugging Face hub cannot be reached.
_base_ = './transvg_r50.py'

gate_cfg = dict(rank=30, reduction=16, use_channel=True, use_spatial=True, v_init=0.0)
model = dict(
    type='QRNet',
    backbone=dict(
        _delete_=True,
        type='QueryModulatedSwin',
        embed_dims=96,
        depths=(2, 2, 18, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        mlp_ratio=4,
        qkv_bias=True,
        drop_path_rate=0.2,
        text_channels=768,
        gate_cfg=gate_cfg,
    ),
    neck=dict(
        _delete_=True,
        type='QueryModulatedFPN',
        in_channels=[96, 192, 384, 768],
        out_channels=256,
        num_outs=5,
        text_channels=768,
        gate_cfg=gate_cfg,
    ),
    visual_encoder=dict(
        _delete_=True, type='PyramidVisualEncoder', embed_dims=256, num_levels=5, num_used=2
    ),
    bbox_head=dict(num_visual_tokens=500),
)
