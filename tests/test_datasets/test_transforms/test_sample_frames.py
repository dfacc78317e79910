import json

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS

from mmvg.datasets import HCSTVGDataset, VidSTGDataset
from mmvg.datasets.transforms import SampleFrames


class Untouchable(dict):
    """Results that raise when the truth is looked at."""

    def __getitem__(self, key):
        if key == 'tubes':
            raise AssertionError('sampling looked at the truth')
        return super().__getitem__(key)

    get = __getitem__


def sample(segment, fps=30.0, **kwargs):
    transform = TRANSFORMS.build(dict(type='SampleFrames', **kwargs))
    results = Untouchable(segment=segment, fps=fps, tubes=[dict(span=segment)])
    frame_ids = transform(results)['frame_ids']
    assert frame_ids.dtype == np.int64
    assert segment[0] <= frame_ids[0] and frame_ids[-1] < segment[1]
    assert (np.diff(frame_ids) > 0).all()
    return frame_ids.tolist()


def test_uniform_goes_from_the_first_frame_to_the_last():
    assert sample((10, 21), num_frames=6) == [10, 12, 14, 16, 18, 20]
    assert sample((0, 100), num_frames=4) == [0, 33, 66, 99]
    assert sample((5, 9), num_frames=64) == [5, 6, 7, 8]  # a short segment gives what it has
    assert sample((7, 8), num_frames=64) == [7]
    assert sample((7, 90), num_frames=1) == [7]
    assert len(sample((0, 480))) == 64


def test_uniform_never_repeats_a_frame():
    for length in range(1, 150):
        assert len(sample((3, 3 + length), num_frames=64)) == min(length, 64)


def test_fps_takes_the_frames_at_which_a_clock_ticks():
    assert sample((0, 31), protocol='fps') == [0, 6, 12, 18, 24]
    assert sample((0, 31), protocol='fps', last_frame='due') == [0, 6, 12, 18, 24, 30]
    assert sample((0, 30), protocol='fps', last_frame='always') == [0, 6, 12, 18, 24, 29]
    # The clock starts with the video, the samples with the segment.
    assert sample((4, 20), protocol='fps') == [4, 6, 12, 18]
    assert sample((1, 2), protocol='fps') == [1]
    assert sample((1, 2), protocol='fps', last_frame='always') == [1]
    # 29.97 fps: 5 ticks a second come with frames 6 (5.994), 12 (11.988), ...
    assert sample((0, 20), fps=29.97, protocol='fps') == [0, 6, 12, 18]
    # Slower videos give every frame, but the last one.
    assert sample((2, 7), fps=4.0, protocol='fps') == [2, 3, 4, 5]


def test_more_than_max_frames_are_thinned_out():
    frame_ids = sample((0, 601), protocol='fps', max_frames=40)  # 100 frames at 5 fps
    assert frame_ids == [6 * (j * 100 // 40) for j in range(40)]
    assert len(sample((0, 1201), protocol='fps')) == 200 == len(sample((0, 1207), protocol='fps'))


def tubedetr(begin, end, fps):
    """The published sampling, written frame by frame; ``end`` is the stored last frame."""
    frame_ids = [begin]
    for frame in range(begin, end):
        if int(frame * 5 / fps) > int(frame_ids[-1] * 5 / fps):
            frame_ids.append(frame)
    count = len(frame_ids)
    return [frame_ids[j * count // 200] for j in range(200)] if count > 200 else frame_ids


def test_tubedetr_sampling_of_the_real_validation_file(samples):
    path = samples / 'vidstg' / 'annotations' / 'val_annotations.json'
    lengths, capped = [], 0
    for i, record in enumerate(VidSTGDataset(str(path))):
        begin, end = record['segment']
        frame_ids = sample((begin, end), record['fps'], protocol='fps')
        if i % 10 == 0:
            assert frame_ids == tubedetr(begin, end - 1, record['fps'])
        lengths.append(len(frame_ids))
        unlimited = sample((begin, end), record['fps'], protocol='fps', max_frames=10**6)
        capped += len(unlimited) > 200
    assert np.mean(lengths) == pytest.approx(110.5258, abs=1e-4)
    assert capped == 893 and max(lengths) == 200


def test_every_real_event_keeps_two_sampled_frames(samples):
    path = samples / 'vidstg' / 'annotations' / 'val_annotations.json'
    entries = json.loads(path.read_text())
    kept = []
    for record, entry in zip(VidSTGDataset(str(path)), entries, strict=True):
        truth = entry['temporal_gt']
        frame_ids = np.array(sample(record['segment'], record['fps'], protocol='fps'))
        kept.append(((frame_ids >= truth['begin_fid']) & (frame_ids < truth['end_fid'])).sum())
    assert min(kept) == 2


def test_hcstvg_rates(samples):
    path = samples / 'hc_stvg' / 'test_meta_2_more.json'
    short, record = HCSTVGDataset(str(path))
    assert (record['num_frames'], record['fps']) == (600, 30)
    at_rate = dict(protocol='fps', last_frame='always')
    frame_ids = SampleFrames(fps=3.2, **at_rate)(record)['frame_ids']
    assert len(frame_ids) == 65 and frame_ids[-1] == 599  # 64 ticks in 20 s and the last frame
    frame_ids = SampleFrames(fps=6.4, **at_rate)(record)['frame_ids']
    assert len(frame_ids) == 129
    frame_ids = SampleFrames(protocol='fps')(record)['frame_ids']
    assert frame_ids.tolist() == list(range(0, 599, 6))
    assert short['fps'] == 25.05


@pytest.mark.parametrize(
    'kwargs, match',
    [
        (dict(protocol='random'), "'uniform' or 'fps', got 'random'"),
        (dict(last_frame='no'), "'never', 'due' or 'always', got 'no'"),
        (dict(num_frames=0), 'must be 1 or more'),
        (dict(protocol='fps', fps=0.0), 'above 0'),
    ],
)
def test_wrong_arguments(kwargs, match):
    with pytest.raises(ValueError, match=match):
        SampleFrames(**kwargs)
