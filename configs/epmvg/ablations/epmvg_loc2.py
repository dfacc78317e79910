# Table 4, row 2: at the linear layers before the fusion.
_base_ = '../transvg_r50_refcoco.py'

image_tap = dict(module='bbox_head.visual_proj')
text_tap = dict(module='bbox_head.text_proj')
default_hooks = dict(distillation=dict(image_tap=image_tap, text_tap=text_tap))
