# Ours: [VLS] is the first visual token that is no padding.
_base_ = '../transvg_r50_refcoco.py'

default_hooks = dict(distillation=dict(image_tap=dict(token='first_valid')))
