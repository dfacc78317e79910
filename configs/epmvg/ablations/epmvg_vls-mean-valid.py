# Ours: [VLS] is the mean of all visual tokens that are no padding.
_base_ = '../transvg_r50_refcoco.py'

default_hooks = dict(distillation=dict(image_tap=dict(token='mean_valid')))
