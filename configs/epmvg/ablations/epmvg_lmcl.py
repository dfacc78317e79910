# Ours: the large margin cosine loss that the paper cites, with the batch as negatives.
_base_ = '../transvg_r50_refcoco.py'

default_hooks = dict(distillation=dict(loss=dict(type='LargeMarginDistillLoss')))
