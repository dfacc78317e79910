# Table 2, row 1: one stage, no regression.
_base_ = '../reir_r101_flickr30k.py'

model = dict(
    stages=1,
    bbox_head=dict(regressor='none', num_relations=0),
    neck=None,
    loss_recon_fine=None,
    loss_rank_fine=None,
    loss_reg_coarse=None,
    loss_reg_fine=None,
    loss_relation=None,
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))  # as the script that trains it says (spec 4)
