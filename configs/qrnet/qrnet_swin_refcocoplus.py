_base_ = [
    '../_base_/models/qrnet_swin-s.py',
    '../_base_/datasets/refcocoplus.py',
    '../_base_/schedules/qrnet_180e_one-drop.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=16)
load_from = 'checkpoints/swin-s_mask-rcnn_refcocoplus.pth'  # initial weights, see README.md
