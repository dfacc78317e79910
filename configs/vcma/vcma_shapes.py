# The model and the detections come with the data; see there for the command that makes them.
_base_ = [
    '../_base_/datasets/shapes_video.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/vcma_em.py',
]

warmup, e_phase, m_phase = 360, 80, 40
train_cfg = dict(
    type='ResumableIterTrainLoop',
    max_iters=warmup + 12 * (e_phase + m_phase),
    val_begin=warmup + 1,  # no model of the warm-up is the best one
    val_interval=e_phase + m_phase,
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
custom_hooks = [
    dict(
        type='VariationalEMHook',
        warmup_iters=warmup,
        e_iters=e_phase,
        m_iters=m_phase,
        monitor={{_base_.monitor}},
        ramp_rounds=4,  # beta is large: relations must be learned before they decide
    )
]
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=e_phase + m_phase, save_best={{_base_.monitor}}),
)
log_processor = dict(by_epoch=False)
