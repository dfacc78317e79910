# The released QRNet's optimisation (spec 2.7): 8 GPUs x 16 images, fp32, no gradient clipping; six
# groups of parameters. What a detector or BERT brings learns at a tenth of the rate.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=180, val_interval=1)
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
            backbone_gates=dict(prefixes=['backbone.gates'], lr=1e-4),
            visual_neck=dict(prefixes=['neck'], lr=1e-5),
            neck_gates=dict(prefixes=['neck.gates'], lr=1e-4),
            language_model=dict(prefixes=['language_model'], lr=1e-5),
        )
    ),
)
# The rate is divided by 10 every 60 epochs, that is, after 60 and after 120.
param_scheduler = dict(type='StepLR', step_size=60, gamma=0.1, by_epoch=True)

auto_scale_lr = dict(enable=False, base_batch_size=128)
randomness = dict(seed=13)
