# RefCOCO+ in the recipe of the EpmVG text (spec 3.1): one drop, after 120 of the 180 epochs.
_base_ = './qrnet_180e_one-drop.py'

auto_scale_lr = dict(base_batch_size=64)
