"""What the model gets of a video segment."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

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
    return TRANSFORMS.build(dict(type='PackVideoInputs'))({**RECORD, **more})


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


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (2, 3, 4, 3), dtype=np.uint8))


def test_frames_without_tubes(frames):
    packed = pack(frames=frames)
    assert list(packed['inputs']) == ['frames'] and 'tubes' not in packed['data_samples']
    first, second = packed['inputs']['frames']
    assert len(packed['inputs']['frames']) == 2
    assert first.shape == (3, 3, 4) and first.dtype == torch.uint8
    assert torch.equal(second[:, 1, 2], torch.from_numpy(frames[1][1, 2]))
    mirrored = pack(frames=[frame[:, ::-1] for frame in frames])['inputs']['frames'][1]
    assert torch.equal(mirrored, second.flip(2))


def test_frames_stay_on_the_host_and_are_not_copied(frames):
    """On the way to the model; 'meta' stands for an accelerator."""
    batch = pseudo_collate([pack(frames=frames), pack(frames=frames[:1])])  # of other lengths
    preprocess = MODELS.build(dict(type='VideoDataPreprocessor')).to('meta')
    given = preprocess.cast_data(batch)['inputs']['frames']
    assert [len(video) for video in given] == [2, 1]
    for frame, tensor in zip(frames, given[0], strict=True):
        seen = tensor.permute(1, 2, 0).cpu().numpy()  # as the detector takes it
        assert np.shares_memory(seen, frame) and seen.flags.c_contiguous


def test_frames_come_out_of_a_worker(frames):
    records = [dict(RECORD, frames=frames), dict(RECORD, frames=frames[:1])]
    loader = DataLoader(
        [0, 1], batch_size=2, num_workers=1, collate_fn=lambda rows: collate(records, rows)
    )
    (batch,) = loader
    assert [len(video) for video in batch['inputs']['frames']] == [2, 1]
    np.testing.assert_array_equal(batch['inputs']['frames'][0][1].permute(1, 2, 0), frames[1])


def collate(records, rows):
    return pseudo_collate([pack(**records[i]) for i in rows])
