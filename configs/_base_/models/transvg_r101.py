_base_ = './transvg_r50.py'

model = dict(backbone=dict(depth=101))
