# Ours: Loc. 4 of Table 4 with QRNet; the last map of the Swin.
_base_ = '../qrnet_swin_refcoco.py'

image_tap = dict(module='backbone')
text_tap = dict(module='language_model.bert.embeddings')
default_hooks = dict(distillation=dict(image_tap=image_tap, text_tap=text_tap))
