_base_ = [
    '../_base_/models/transvg_r101.py',
    '../_base_/datasets/refcocoplus.py',
    '../_base_/schedules/transvg_180e.py',
    '../_base_/default_runtime.py',
]
