# The released TransVG's optimisation (spec 1.7): 8 GPUs x 8 images, fp32, no gradient clipping.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    # Weight decay is on all parameters, norms and biases too.
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    constructor='GroupOptimWrapperConstructor',
    paramwise_cfg=dict(
        groups=dict(
            visual_backbone=dict(prefixes=['backbone'], lr=1e-5),
            visual_encoder=dict(prefixes=['neck', 'visual_encoder'], lr=1e-5),
            language_model=dict(prefixes=['language_model'], lr=1e-5),
        )
    ),
)
# The rate is divided by 10 every 60 epochs.
param_scheduler = dict(type='StepLR', step_size=60, gamma=0.1, by_epoch=True)

auto_scale_lr = dict(enable=False, base_batch_size=64)
randomness = dict(seed=13)
