# Ours: [VLS] is a learnable token beside [REG], which the box can attend to.
_base_ = '../transvg_r50_refcoco.py'

model = dict(bbox_head=dict(learnable_vls=True))
default_hooks = dict(distillation=dict(image_tap=dict(token='learnable')))
