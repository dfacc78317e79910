# Ours: no learning, the box whose category fits the phrase best; of equal ones, the detector's best.
#     python tools/test.py reir_argmax none
_base_ = './reir_baseline.py'

model = dict(
    bbox_head=dict(scorer='none', combine='add_log', ranking_dims=0),
    loss_recon_coarse=None,
    loss_rank_coarse=None,
)
train_dataloader = None
train_cfg = None
optim_wrapper = None
param_scheduler = None
load_from = None
