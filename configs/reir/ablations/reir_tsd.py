# Table 2, row 2: two-stage denoising (TSD).
_base_ = '../reir_r101_flickr30k.py'

model = dict(
    bbox_head=dict(regressor='none', num_relations=0),
    neck=None,
    loss_reg_coarse=None,
    loss_reg_fine=None,
    loss_relation=None,
)
