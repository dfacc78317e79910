default_scope = 'mmdet'
# A config that sets custom_imports itself replaces this list: append 'mmvg' to yours.
custom_imports = dict(imports=['mmvg'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Checkpoints are replaced atomically: a run killed at any instant can be resumed.
    checkpoint=dict(
        type='ResumableCheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='val/acc@0.5',
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Random numbers follow from (seed, epoch, rank): a resumed run equals an unbroken one.
    epoch_seed=dict(type='EpochSeedHook'),
    visualization=dict(type='QueryVisualizationHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [
    dict(type='LocalVisBackend')
]  # add dict(type='TensorboardVisBackend') or WandbVisBackend
visualizer = dict(type='GroundingVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)

log_level = 'INFO'
load_from = None
resume = False
