# The released ReIR's optimisation (spec 4): 80,000 iterations of 40 captions, on one device or as four
# times 10 (train_dataloader.batch_size=10 then: losses are ten times their mean, rankings in tens).
_base_ = '../default_runtime.py'

interval = 2500
train_cfg = dict(type='ResumableIterTrainLoop', max_iters=80000, val_interval=interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    # Weight decay is on all parameters, norms, biases and embeddings too.
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, milestones=[32000, 40000], gamma=0.1),
]

# The best by the accuracy of both stages together, and the last.
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=interval))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=40)
randomness = dict(seed=10)
