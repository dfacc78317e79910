# Table 4, row 3: at the last transformer layers of the two branches.
_base_ = '../transvg_r50_refcoco.py'

image_tap = dict(module='visual_encoder')
text_tap = dict(module='language_model')
default_hooks = dict(distillation=dict(image_tap=image_tap, text_tap=text_tap))
