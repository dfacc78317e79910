# No learning, the box whose category fits the phrase best; of equal ones, the detector's best.
#     python tools/test.py reir_shapes_argmax none
_base_ = './reir_shapes.py'

model = dict(
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
train_dataloader = None
train_cfg = None
optim_wrapper = None
param_scheduler = None
