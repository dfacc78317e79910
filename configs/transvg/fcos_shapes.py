# Detects all shapes of a scene with MMDetection's FCOS. Its backbone and neck are those of
# transvg_shapes.py and serve it as initial weights, as a DETR trained on COCO serves TransVG.
_base_ = [
    '../_base_/models/transvg_tiny.py',
    '../_base_/datasets/shapes.py',
    '../_base_/default_runtime.py',
]

train_pipeline = [
    dict(type='LoadGroundingImage'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
# For pictures of others: extract_proposals.py, infer.py --detector.
test_pipeline = [dict(type='LoadGroundingImage'), dict(type='PackDetInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, queries_per_scene=1))
val_dataloader = None
val_evaluator = None
val_cfg = None
test_dataloader = None
test_evaluator = None
test_cfg = None

model = dict(
    _delete_=True,
    type='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone={{_base_.model.backbone}},
    neck={{_base_.model.neck}},
    bbox_head=dict(
        type='FCOSHead',
        num_classes=24,
        in_channels=64,
        feat_channels=64,
        stacked_convs=1,
        strides=[8],
        regress_ranges=((-1, 1e8),),
        center_sampling=True,
        norm_on_bbox=True,
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
    ),
    test_cfg=dict(
        nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=50
    ),
)

max_epochs = 1
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=10.0),
)
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
default_hooks = dict(checkpoint=dict(save_best=None))
randomness = dict(seed=0)
