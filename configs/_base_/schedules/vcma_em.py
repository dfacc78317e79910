# Two epochs of contrast, then rounds of an E-phase and an M-phase of half an epoch each until the validation
# stops them (spec vcma 1.8). A config that uses this sets the iterations of an epoch.
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
param_scheduler = None
find_unused_parameters = True  # in each phase one network rests
monitor = 'val/declarative/m_vIoU'
randomness = dict(seed=0)
