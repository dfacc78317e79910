# EpmVG on generated scenes. The teacher is a small CLIP that comes with mmvg.
_base_ = ['../transvg/transvg_shapes.py', '../_base_/models/shapes_clip.py']

default_hooks = dict(
    distillation=dict(type='CLIPDistillationHook', teacher=_base_.shapes_clip, alpha=1.5, beta=2.0)
)
