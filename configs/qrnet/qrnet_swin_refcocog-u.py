_base_ = [
    '../_base_/models/qrnet_swin-s.py',
    '../_base_/datasets/refcocog-u.py',
    '../_base_/schedules/qrnet_180e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=16)
model = dict(bbox_head=dict(max_query_len=40))
load_from = 'checkpoints/swin-s_mask-rcnn_refcocog-u.pth'  # initial weights, see README.md
