# Table 3, row 3: image distillation only.
_base_ = '../transvg_r50_refcoco.py'

default_hooks = dict(distillation=dict(beta=0.0))
