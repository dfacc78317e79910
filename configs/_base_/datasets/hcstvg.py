# HC-STVG v1. It has no validation split, so the test split chooses the model, as in the field.
# See README.md here for the files of the data set; README.md in configs/vcma says how predicates and regions
# are made.
_base_ = ['./video_loaders.py', '../models/vcma_r101.py']

root = '{{$MMVG_HCSTVG_ROOT:data/hc-stvg}}/'
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
    type='HCSTVGDataset',
    data_root=root,
    data_prefix=dict(video='video'),
    pipeline=pipeline,
)
train_dataloader = dict(dataset=dict(**data, ann_file='train.json'))
val_dataloader = dict(dataset=dict(**data, ann_file='test.json', name='val', test_mode=True))
test_dataloader = dict(dataset=dict(**data, ann_file='test.json', name='test', test_mode=True))
val_evaluator = dict(
    type='VideoTubeMetric', dataset='hcstvg', answers=dict(p='p_tubes', q='q_tubes')
)
test_evaluator = val_evaluator
model = dict(tube_head=dict(predicates=root + 'predicates.json'))
