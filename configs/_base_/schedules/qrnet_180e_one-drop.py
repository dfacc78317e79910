# RefCOCO+ (spec 2.7): one drop, after 120 of the 180 epochs.
_base_ = './qrnet_180e.py'

param_scheduler = dict(step_size=120)
