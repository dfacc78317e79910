# Detects the shapes of generated videos, which it has never seen: learned from scenes at sizes of 40 to
# 64 px, since shapes of videos are smaller than those of scenes.
_base_ = '../transvg/fcos_shapes.py'

train_pipeline = [
    dict(type='LoadGroundingImage'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(side, side) for side in (40, 48, 56, 64)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 5
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
