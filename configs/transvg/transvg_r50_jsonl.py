_base_ = [
    '../_base_/models/transvg_r50.py',
    '../_base_/datasets/jsonl.py',
    '../_base_/schedules/transvg_90e.py',
    '../_base_/default_runtime.py',
]

model = dict(bbox_head=dict(max_query_len=40))
