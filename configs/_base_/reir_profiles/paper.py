# ReIR by the equations of the paper where the release departs from them (spec 7, profile "paper").
profile = dict(
    language_model=dict(rnn='lstm', pool='mean'),  # Eq. 1; A2, A3
    category_similarity=dict(pool='cos_mean'),  # Eq. 3: of the phrase and the category; A5
    bbox_head=dict(
        decoder_rnn='lstm',  # Eq. 13; A2
        scorer='mlp',  # "fully-connected networks"; A1
        spatial='grid98',  # section 3.2.1; A4
        combine='product',  # Eq. 4; A9
        mask_zero=False,  # Eq. 4 is a plain softmax; A8
        recon_weight='fine',  # section 3.3; A10
        fuse='score_product',  # Eq. 11; A32
    ),
    neck=dict(variant='paper'),  # Eq. 6 to 8; A19
    loss_recon_coarse=dict(norm='phrase_sum'),  # Eq. 14; A11, A12
    loss_recon_fine=dict(norm='phrase_sum'),
    # Eq. 15 from 7,500 on; any box with an overlap > tau, so the teacher itself, too; A13, A14, A16, A17.
    reg_loss_start=7500,
    refine_start=7500,
    loss_reg_coarse=dict(score_gap=0.0, include_self=True, norm='phrase_sum'),
    loss_reg_fine=dict(score_gap=0.0, include_self=True, norm='phrase_sum'),
    loss_relation=dict(mode='ce', max_class_weight=1.0, norm='sum'),  # Eq. 17; A28
    # "Similar to Align2Ground" (A34): a margin on the scores, negatives from the batch (A21).
    loss_rank_coarse=dict(mode='hinge', group_size=None),
    loss_rank_fine=dict(mode='hinge', group_size=None),
)
