_base_ = ['../qrnet/qrnet_swin_8xb8_flickr30k.py', '../_base_/distillation/epmvg_loc1.py']

default_hooks = dict(distillation=_base_.distillation)
