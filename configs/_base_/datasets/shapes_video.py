# Generated videos of moving shapes: nothing on disk but the detections, which this makes:
#     python tools/train.py configs/vcma/fcos_shapes_video.py
#     python tools/analysis_tools/extract_video_regions.py configs/vcma/fcos_shapes_video.py \
#         work_dirs/fcos_shapes_video/epoch_5.pth configs/vcma/vcma_shapes.py \
#         --out work_dirs/shapes_video_regions --batch-size 32
_base_ = '../models/vcma_tiny.py'

region_file = 'work_dirs/shapes_video_regions'
pipeline = [
    dict(type='SampleFrames', protocol='uniform', num_frames=32),
    dict(
        type='LoadTubes',
        region_file=region_file,
        linker={{_base_.model.linker}},
        num_clips={{_base_.num_clips}},
        keep=True,
    ),
    dict(type='ParseQueries', predicates={{_base_.model.tube_head.predicates}}),
    dict(type='PackVideoInputs'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=0,  # tubes are kept in memory
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='ShapesVideoDataset', split='train', num_videos=1200, pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesVideoDataset',
        split='val',
        name='val',
        num_videos=250,
        test_mode=True,
        pipeline=pipeline,
    ),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ShapesVideoDataset',
        split='test',
        name='test',
        num_videos=500,
        test_mode=True,
        pipeline=pipeline,
    ),
)
val_evaluator = dict(type='VideoTubeMetric', answers=dict(p='p_tubes', q='q_tubes'))
test_evaluator = val_evaluator
