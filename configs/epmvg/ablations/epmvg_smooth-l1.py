# Ours: the box loss that the paper prints; TransVG's code, and so the others, have L1.
_base_ = '../transvg_r50_refcoco.py'

model = dict(bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss')))
