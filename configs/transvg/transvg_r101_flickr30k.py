_base_ = [
    '../_base_/models/transvg_r101.py',
    '../_base_/datasets/flickr30k.py',
    '../_base_/schedules/transvg_90e.py',
    '../_base_/default_runtime.py',
]
