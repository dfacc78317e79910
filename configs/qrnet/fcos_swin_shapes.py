# Detects all shapes of a scene with MMDetection's FCOS on a plain Swin and FPN. Their weights are
# the initial ones of qrnet_shapes.py, as a Mask R-CNN trained on COCO serves QRNet.
_base_ = ['../transvg/fcos_shapes.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
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
    ),
    neck=dict(_delete_=True, type='FPN', in_channels=[32, 64], out_channels=64, num_outs=2),
    bbox_head=dict(strides=[4, 8], regress_ranges=((-1, 16), (16, 1e8))),
)
