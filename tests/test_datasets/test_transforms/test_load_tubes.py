"""Tubes of a region file (spec vcma 1.4)."""

import pickle

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from numpy.testing import assert_allclose, assert_array_equal

from mmvg.datasets.video_regions import VideoRegionWriter
from mmvg.structures.regions import Regions

FRAMES = [0, 3, 5, 9]


def regions(frame):
    """Two boxes of 20 x 10 that change places in the list; the left one moves right."""
    left, right = [frame, 0, frame + 20, 10], [60, 30, 80, 40]
    order = slice(None) if frame % 2 == 0 else slice(None, None, -1)
    return Regions(
        np.float32([left, right][order]),
        np.float32([0.9, 0.8]),
        np.array([0, 1]),
        np.float32([[1, 0, 0], [0, 1, 0]][order]),
        np.float32([0, 0, frame]),
        (50, 100),
    )


@pytest.fixture
def path(tmp_path):
    with VideoRegionWriter(tmp_path / 'regions', dict(detector='none')) as writer:
        for frame in FRAMES:
            writer.add_frame('a', frame, regions(frame))
        for frame in (0, 1):  # nothing is found in this video
            empty = Regions(
                np.zeros((0, 4), np.float32),
                *(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 3), np.float32)),
                *(np.float32([0, 0, 1]), (50, 100)),
            )
            writer.add_frame('empty', frame, empty)
    return str(tmp_path / 'regions')


def load(path, video='a', frames=FRAMES, **settings):
    transform = TRANSFORMS.build(dict(type='LoadTubes', region_file=path, **settings))
    results = dict(video_id=video, frame_ids=np.array(frames), height=50, width=100)
    return transform, transform(results)['tubes_found']


def test_objects_are_followed_and_pooled_over_clips(path):
    _, found = load(path, num_clips=2)
    assert_array_equal(found['bboxes'][:, :, 0], [[60] * 4, FRAMES])  # of equal scores the stiller
    assert found['bboxes'].shape == (2, 4, 4)
    # Two clips of two frames; the last 5 are centre, width, height and area by the frame's.
    assert found['tube_feats'].shape == (2, 2, 3 + 5)
    assert_allclose(found['tube_feats'][0], [[0, 1, 0, 0.7, 0.7, 0.2, 0.2, 0.04]] * 2, atol=1e-6)
    geometry = [[0.115, 0.1, 0.2, 0.2, 0.04], [0.17, 0.1, 0.2, 0.2, 0.04]]
    assert_allclose(found['tube_feats'][1, :, 3:], geometry, atol=1e-6)
    assert_allclose(found['tube_feats'][1, :, :3], [[1, 0, 0]] * 2)
    assert_allclose(found['tube_boxes'][1, 0], [0.015, 0, 0.215, 0.2], atol=1e-6)
    assert_allclose(found['frame_feats'], [[0, 0, 1.5], [0, 0, 7]])
    assert all(found[k].dtype == np.float32 for k in ('tube_feats', 'tube_boxes', 'frame_feats'))


def test_settings_of_the_linker(path):
    _, found = load(path, linker=dict(max_tubes=1))
    assert found['tube_feats'].shape == (1, 4, 8)  # no more clips than frames
    transform, _ = load(path, linker=dict(method='hungarian', alpha=1.0))
    assert (transform.linker.method, transform.linker.alpha) == ('hungarian', 1)
    with pytest.raises(ValueError, match='method'):
        load(path, linker=dict(method='greedy'))


def test_a_video_without_detections_is_one_tube(path):
    _, found = load(path, 'empty', [0, 1])
    assert_array_equal(found['bboxes'], [[[0, 0, 100, 50]] * 2])
    assert_allclose(found['tube_feats'], [[[0, 0, 0, 0.5, 0.5, 1, 1, 1]] * 2])


def test_tubes_are_kept_by_video_and_frames(path):
    transform, found = load(path, keep=True)
    again = dict(video_id='a', frame_ids=np.array(FRAMES), height=50, width=100)
    assert transform(again)['tubes_found'] is found
    other = dict(again, frame_ids=np.array([0, 9]))
    assert transform(other)['tubes_found']['bboxes'].shape == (2, 2, 4)
    assert transform(dict(again, video_id='empty', frame_ids=[0]))['tubes_found'] is not found
    assert len(transform.kept) == 3
    copied = pickle.loads(pickle.dumps(transform))(again)['tubes_found']  # as workers get it
    assert_array_equal(copied['bboxes'], found['bboxes'])
    assert load(path)[0].kept is None


def test_frames_that_the_file_lacks_are_named(path):
    with pytest.raises(ValueError, match="has not frame 4 of video 'a'"):
        load(path, frames=[0, 4])
    with pytest.raises(FileNotFoundError, match='extract_video_regions'):
        load(path + '-absent')
