# Ours: QRNet with [VLS] as a learnable token beside [REG].
_base_ = '../qrnet_swin_refcoco.py'

model = dict(bbox_head=dict(learnable_vls=True))
default_hooks = dict(distillation=dict(image_tap=dict(token='learnable')))
