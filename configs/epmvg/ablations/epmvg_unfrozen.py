# Table 5, row 2: CLIP learns with the detector.
_base_ = '../transvg_r50_refcoco.py'

default_hooks = dict(distillation=dict(teacher=dict(trainable=True), teacher_lr=1e-5))
