_base_ = ['../qrnet/qrnet_swin_8xb8_referit.py', '../_base_/distillation/epmvg_loc1.py']

default_hooks = dict(distillation=_base_.distillation)
