# The recipe of the EpmVG text (spec 3.1): TransVG's 8 GPUs x 8 images and 90 epochs with a drop
# after 60; the six groups are QRNet's (spec 3.2, A18).
_base_ = './qrnet_180e.py'

train_cfg = dict(max_epochs=90)
auto_scale_lr = dict(base_batch_size=64)
