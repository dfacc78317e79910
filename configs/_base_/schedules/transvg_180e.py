_base_ = './transvg_90e.py'

train_cfg = dict(max_epochs=180)
param_scheduler = dict(step_size=120)
