_base_ = [
    '../_base_/models/transvg_tiny.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/shapes_5e.py',
    '../_base_/default_runtime.py',
]
