_base_ = [
    '../_base_/models/qrnet_swin-s.py',
    '../_base_/datasets/flickr30k.py',
    '../_base_/schedules/qrnet_8xb8-90e.py',
    '../_base_/default_runtime.py',
]

load_from = 'checkpoints/swin-s_mask-rcnn.pth'  # initial weights, see README.md
