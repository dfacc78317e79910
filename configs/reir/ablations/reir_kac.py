# Table 1, KAC Net*: one stage, reconstruction and visual consistency.
_base_ = './reir_baseline.py'

model = dict(
    bbox_head=dict(ranking_dims=0, predict_places=True),
    loss_rank_coarse=None,
    loss_consistency=dict(type='VisualConsistencyLoss', loss_weight=0.1),
)
