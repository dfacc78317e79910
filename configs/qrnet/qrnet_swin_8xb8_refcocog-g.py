_base_ = [
    '../_base_/models/qrnet_swin-s.py',
    '../_base_/datasets/refcocog-g.py',
    '../_base_/schedules/qrnet_8xb8-90e.py',
    '../_base_/default_runtime.py',
]

model = dict(bbox_head=dict(max_query_len=40))
load_from = 'checkpoints/swin-s_mask-rcnn_refcocog-g.pth'  # initial weights, see README.md
