# Ours: CLIP sees the picture as it is on disk; its embedding is computed once. It is not mirrored where the
# augmentation mirrors picture and text, so that 'left' then means the other side for CLIP's picture.
_base_ = '../transvg_r50_refcoco.py'

load, *augment = _base_.train_pipeline
train_pipeline = [load, dict(type='AddTeacherView', size=224), *augment]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(distillation=dict(view='original'))
