# Table 3, row 4: text distillation only.
_base_ = '../transvg_r50_refcoco.py'

default_hooks = dict(distillation=dict(alpha=0.0))
