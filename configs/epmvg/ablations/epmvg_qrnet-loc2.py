# Ours: Loc. 2 of Table 4 with QRNet.
_base_ = '../qrnet_swin_refcoco.py'

image_tap = dict(module='bbox_head.visual_proj')
text_tap = dict(module='bbox_head.text_proj')
default_hooks = dict(distillation=dict(image_tap=image_tap, text_tap=text_tap))
