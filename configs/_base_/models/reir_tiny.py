# ReIR at a size that learns on a CPU in minutes; its frozen backbone is the detector's of fcos_shapes.py.
_base_ = './shapes_r18.py'

relations = 4
model = dict(
    type='ReIR',
    data_preprocessor=dict(type='PhraseDataPreprocessor', num_relations=relations),
    backbone=dict(frozen_stages=2, norm_eval=True),
    roi_extractor=dict(
        type='SingleRoIExtractor',
        roi_layer=dict(
            type='RoIAlign', output_size=3, sampling_ratio=2, aligned=True, use_torchvision=True
        ),
        out_channels=64,
        featmap_strides=[8],
    ),
    language_model=dict(type='PhraseRNN', vocab_size=18, embed_dims=64),
    category_similarity=dict(
        type='CategorySimilarity',
        words=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        categories=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        names=['circle', 'square', 'triangle'],
    ),
    bbox_head=dict(
        type='CoarseToFineMatchingHead',
        vocab_size=18,
        roi_channels=64,
        embed_dims=64,
        top_k=5,
        spatial='box5',  # relations of Shapes are of places
        # The released linear scorer rates a box alike for all phrases; there, categories tell them apart.
        # These name the kind of a shape only.
        scorer='dot',
        num_relations=relations,
        ranking_dims=32,
    ),
    neck=dict(type='RelationGraphNeck', embed_dims=64, gate_dims=32),
    refine_start=500,
    loss_recon_coarse=dict(type='PhraseReconstructionLoss'),
    loss_recon_fine=dict(type='PhraseReconstructionLoss'),
    loss_reg_coarse=dict(type='SelfTaughtRegressionLoss'),
    loss_reg_fine=dict(type='SelfTaughtRegressionLoss'),
    loss_relation=dict(type='RelationLoss'),
    loss_rank_coarse=dict(type='CaptionRankingLoss', group_size=10),
    loss_rank_fine=dict(type='CaptionRankingLoss', group_size=10),
)
