_base_ = [
    '../_base_/models/transvg_r50.py',
    '../_base_/datasets/referit.py',
    '../_base_/schedules/transvg_90e.py',
    '../_base_/default_runtime.py',
]
