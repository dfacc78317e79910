# Table 3, row 2: L1 instead of the cosine.
_base_ = '../transvg_r50_refcoco.py'

default_hooks = dict(distillation=dict(loss=dict(type='L1DistillLoss')))
