"""What the model gets of a video segment."""

import numpy as np
import torch
from mmdet.registry import TRANSFORMS

RECORD = dict(
    video_id='a',
    video_path='a.mp4',
    segment=(2, 9),
    frame_ids=np.array([2, 8]),
    fps=8.0,
    height=3,
    width=4,
    queries=['a dog'],
    query_ids=[7],
    query_types=['declarative'],
    parsed=[dict(entities=['dog'])],
    dataset_name='val',
    source='file: record 0',
    tracks='not for the model',
)


def pack(**more):
    return TRANSFORMS.build(dict(type='PackVideoInputs'))(dict(RECORD, **more))


def test_tubes_are_the_inputs_and_their_boxes_stay_with_the_sample():
    found = dict(
        tube_feats=np.ones((2, 1, 8), np.float32),
        tube_boxes=np.zeros((2, 1, 4), np.float32),
        frame_feats=np.ones((1, 3), np.float32),
        bboxes=np.arange(16, dtype=np.float32).reshape(2, 2, 4),
    )
    packed = pack(tubes_found=found, tubes=[dict(span=(3, 4))])
    assert set(packed) == {'inputs', 'data_samples'}
    assert {k: v.shape for k, v in packed['inputs'].items()} == dict(
        tube_feats=(2, 1, 8), tube_boxes=(2, 1, 4), frame_feats=(1, 3)
    )
    sample = packed['data_samples']
    np.testing.assert_array_equal(sample.tube_bboxes, found['bboxes'])
    assert sample.tubes == [dict(span=(3, 4))] and sample.queries == ['a dog']
    assert sample.segment == (2, 9) and sample.frame_ids.tolist() == [2, 8]
    assert 'tracks' not in sample and not sample.keys()


def test_frames_without_tubes():
    frames = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    packed = pack(frames=frames)
    assert list(packed['inputs']) == ['frames'] and 'tubes' not in packed['data_samples']
    first, second = packed['inputs']['frames']
    assert first.shape == (3, 3, 4) and first.dtype == torch.uint8
    assert torch.equal(second[:, 1, 2], torch.from_numpy(frames[1, 1, 2]))
