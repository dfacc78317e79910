# The backbone of the tiny models for pictures of 64 px, a map of 8 x 8.
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
        frozen_stages=-1,
        norm_cfg=dict(type='BN'),
        norm_eval=False,
        style='pytorch',
    ),
)
