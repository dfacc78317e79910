# Nothing of ReIR that learns or looks: the box whose category fits the phrase best is the answer; of equal
# ones, the detector's best. Configs with this model also set what trains to None.
profile = dict(
    stages=1,
    bbox_head=dict(
        scorer='none', combine='add_log', regressor='none', num_relations=0, ranking_dims=0
    ),
    neck=None,
    loss_recon_coarse=None,
    loss_recon_fine=None,
    loss_reg_coarse=None,
    loss_reg_fine=None,
    loss_relation=None,
    loss_rank_coarse=None,
    loss_rank_fine=None,
)
