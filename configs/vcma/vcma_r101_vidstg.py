_base_ = [
    '../_base_/datasets/vidstg.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/vcma_em.py',
]

epoch = 2262  # 36,202 records in batches of 16.
train_cfg = dict(
    type='ResumableIterTrainLoop',
    max_iters=32 * epoch,
    val_begin=2 * epoch + 1,  # no model of the warm-up is the best one
    val_interval=epoch,
)
custom_hooks = [
    dict(
        type='VariationalEMHook',
        warmup_iters=2 * epoch,
        e_iters=epoch // 2,
        m_iters=epoch - epoch // 2,
        monitor={{_base_.monitor}},
    )
]
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=epoch, save_best={{_base_.monitor}}),
)
log_processor = dict(by_epoch=False)
