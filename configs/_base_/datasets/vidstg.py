# VidSTG. See README.md here for the files of the data set; README.md in configs/vcma says how predicates
# and regions are made.
_base_ = ['./video_loaders.py', '../models/vcma_r101.py']

root = '{{$MMVG_VIDSTG_ROOT:data/vidstg}}/'
pipeline = [
    {{_base_.sample}},
    dict(
        type='LoadTubes',
        region_file=root + 'regions',
        linker={{_base_.linker}},
        num_clips={{_base_.num_clips}},
    ),
    dict(type='ParseQueries', predicates=root + 'predicates.json'),
    dict(type='PackVideoInputs'),
]
data = dict(
    type='VidSTGDataset',
    data_root=root,
    data_prefix=dict(video='vidor/video', annotation='vidor/annotation'),
    pipeline=pipeline,
)
train_dataloader = dict(dataset=dict(**data, ann_file='train_annotations.json'))
val_dataloader = dict(
    dataset=dict(**data, ann_file='val_annotations.json', name='val', test_mode=True)
)
test_dataloader = dict(
    dataset=dict(**data, ann_file='test_annotations.json', name='test', test_mode=True)
)
val_evaluator = dict(type='VideoTubeMetric', answers=dict(p='p_tubes', q='q_tubes'))
test_evaluator = val_evaluator
model = dict(tube_head=dict(predicates=root + 'predicates.json'))
