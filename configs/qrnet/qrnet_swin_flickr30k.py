# No script was released for Flickr30k: that of ReferItGame.
_base_ = [
    '../_base_/models/qrnet_swin-s.py',
    '../_base_/datasets/flickr30k.py',
    '../_base_/schedules/qrnet_180e.py',
    '../_base_/default_runtime.py',
]

auto_scale_lr = dict(base_batch_size=64)
load_from = 'checkpoints/swin-s_mask-rcnn.pth'  # initial weights, see README.md
