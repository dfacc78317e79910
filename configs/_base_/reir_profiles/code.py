# ReIR as released, also where that is odd (spec 7, profile "code"; parts as in the golden run of 8.4).
# Also part of it: vocabularies of all splits, in a folder of their own beside that of the recipe:
#     python tools/misc/build_reir_text.py reir_r101_flickr30k data/flickr30k/text_all --scope all \
#         --categories data/flickr30k/proposals --vectors glove.6B.300d.txt
#     MMVG_REIR_TEXT=text_all python tools/train.py reir_r101_flickr30k_code
# and with the variable set for tools/test.py and tools/infer.py, too; without it, data/flickr30k/text is
# read.
profile = dict(
    backbone=dict(type='ResNet', style='pytorch'),  # A22: not what the weights were trained with
    shared_head=dict(style='pytorch'),
    bbox_head=dict(
        max_over='zero_filled',  # attention vanishes where all logits are far below 0
        recon_weight='fused',  # A10
        fine_conf='fine',  # A18
        fuse='attention_product',  # A32
        scorer='linear',  # A1
        spatial='none',  # A4
    ),
    loss_recon_coarse=None,  # A11
    loss_recon_fine=dict(norm='token_mean'),  # A12
    loss_reg_coarse=dict(score_gap=0.1, norm='candidates', include_self=False),  # A14, A16, A17
    loss_reg_fine=dict(
        score_gap=0.1,
        norm='candidates',
        include_self=False,
        detach_boxes=False,  # A15
    ),
    reg_loss_start=0,  # A13
    refine_start=7500,
    min_box_size=0.0,  # A40
)
