# The released QRNet's optimisation (spec 2.7): 8 GPUs x 16 images, fp32, no gradient clipping; six
# groups of parameters. What a detector or BERT brings learns at a tenth of the rate, which is
# divided by 10 every 60 epochs, that is, after 60 and after 120.
_base_ = './transvg_90e.py'

train_cfg = dict(max_epochs=180)
optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True,
        groups=dict(
            visual_backbone=dict(prefixes=['backbone'], lr=1e-5),
            backbone_gates=dict(prefixes=['backbone.gates'], lr=1e-4),
            visual_neck=dict(prefixes=['neck'], lr=1e-5),
            neck_gates=dict(prefixes=['neck.gates'], lr=1e-4),
            language_model=dict(prefixes=['language_model'], lr=1e-5),
        ),
    )
)
auto_scale_lr = dict(base_batch_size=128)
