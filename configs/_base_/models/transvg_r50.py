# TransVG as released: DETR's R50 visual branch, bert-base, 6 fusion layers, 640 x 640 canvas (spec
# 1.5). MMVG_TEXT_MODEL: a BERT folder, where the Hugging Face hub cannot be reached.
model = dict(
    type='TransVG',
    data_preprocessor=dict(
        type='GroundingDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(3,),
        frozen_stages=1,
        norm_cfg=dict(type='FrozenBN'),
        norm_eval=True,
        style='pytorch',
    ),
    neck=dict(
        type='ChannelMapper',
        in_channels=[2048],
        kernel_size=1,
        out_channels=256,
        norm_cfg=None,
        act_cfg=None,
        num_outs=1,
        init_cfg=None,
    ),
    visual_encoder=dict(
        type='DETRVisualEncoder',
        embed_dims=256,
        num_layers=6,
        num_heads=8,
        feedforward_channels=2048,
        dropout=0.1,
    ),
    language_model=dict(type='BertEncoder', pretrained='{{$MMVG_TEXT_MODEL:bert-base-uncased}}'),
    bbox_head=dict(
        type='RegTokenHead',
        visual_channels=256,
        text_channels=768,
        embed_dims=256,
        num_layers=6,
        num_heads=8,
        feedforward_channels=2048,
        dropout=0.1,
        max_query_len=20,
        num_visual_tokens=400,
        loss_bbox=dict(
            type='L1Loss', loss_weight=1.0
        ),  # the papers say SmoothL1Loss; the code has L1
        loss_giou=dict(type='GIoULoss', loss_weight=1.0),
    ),
)
