# Ours: Loc. 3 of Table 4 with QRNet; of the neck's maps, the finer that gives visual tokens.
_base_ = '../qrnet_swin_refcoco.py'

image_tap = dict(module='neck', output=3)
text_tap = dict(module='language_model')
default_hooks = dict(distillation=dict(image_tap=image_tap, text_tap=text_tap))
