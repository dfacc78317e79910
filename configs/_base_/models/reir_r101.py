# ReIR as the register of the specification recommends (section 7, column "default"): the released heads
# with coarse reconstruction, teachers that get no gradient, and the backbone as its weights were trained.
# A data set adds its vocabularies and tables.
model = dict(
    type='ReIR',
    data_preprocessor=dict(
        type='PhraseDataPreprocessor',
        mean=[102.9801, 115.9465, 122.7717],  # BGR
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=2,
    ),
    # Frozen. For torchvision's weights: type='ResNet', style='pytorch' here and in shared_head (A22), and
    # above mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True.
    backbone=dict(
        type='CaffeResNet',
        depth=101,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        style='caffe',
    ),
    roi_extractor=dict(
        type='SingleRoIExtractor',
        roi_layer=dict(
            type='RoIAlign', output_size=7, sampling_ratio=2, aligned=True, use_torchvision=True
        ),
        out_channels=1024,
        featmap_strides=[16],
    ),
    # The other way to the same: output_size=14 above, dilation=2 here (A22).
    shared_head=dict(type='ResLayer', depth=101, stage=3, stride=1, dilation=1, style='caffe'),
    language_model=dict(type='PhraseRNN', embed_dims=1024),
    category_similarity=dict(type='CategorySimilarity'),
    bbox_head=dict(
        type='CoarseToFineMatchingHead',
        roi_channels=2048,
        embed_dims=1024,
        top_k=5,
        scorer='linear',
        ranking_dims=512,
    ),
    neck=dict(type='RelationGraphNeck', embed_dims=1024, gate_dims=512),
    refine_start=7500,
    loss_scale=10.0,
    loss_recon_coarse=dict(type='PhraseReconstructionLoss'),
    loss_recon_fine=dict(type='PhraseReconstructionLoss'),
    loss_reg_coarse=dict(type='SelfTaughtRegressionLoss', iou_thr=0.6, loss_weight=0.1),
    loss_reg_fine=dict(type='SelfTaughtRegressionLoss', iou_thr=0.6, loss_weight=0.1),
    loss_relation=dict(type='RelationLoss'),
    loss_rank_coarse=dict(type='CaptionRankingLoss', margin=0.2, group_size=10),
    loss_rank_fine=dict(type='CaptionRankingLoss', margin=0.2, group_size=10),
)
