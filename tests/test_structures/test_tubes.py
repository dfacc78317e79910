"""Clips of frames, pooling, decoding (spec vcma 1.4 and 1.8)."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mmvg.structures.tubes import (
    Tubes,
    best_segment,
    clip_of_frame,
    describe_tubes,
    fill_frames,
    pool_tubes,
)


def test_clips_are_of_nearly_equal_length():
    assert_array_equal(clip_of_frame(6, 3), [0, 0, 1, 1, 2, 2])
    assert_array_equal(clip_of_frame(3, 32), [0, 1, 2])
    for frames, clips in ((7, 3), (64, 32), (50, 32), (1, 1)):
        lengths = np.bincount(clip_of_frame(frames, clips))
        assert len(lengths) == clips and lengths.max() - lengths.min() <= 1


def test_best_segment():
    assert best_segment(np.array([-2, 0.7, -0.3, 1.1, -4, 0.5])) == (1, 3)
    assert best_segment(np.array([-3.0, -1, -2])) == (1, 1)
    rng = np.random.RandomState(0)
    for _ in range(100):
        gains = rng.randn(7)
        runs = itertools.combinations(range(8), 2)
        first, end = max(runs, key=lambda run: gains[slice(*run)].sum())
        assert best_segment(gains) == (first, end - 1)


def test_every_frame_gets_a_box():
    bboxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10]], np.float32)
    found = fill_frames(bboxes, np.array([3, 7]), (1, 10))
    assert_allclose(found[:, 0], [0, 0, 0, 1, 2, 3, 4, 4, 4])
    both = fill_frames(np.stack([bboxes, bboxes + 1]), np.array([3, 7]), (1, 10))
    assert_allclose(both, [found, found + 1])
    assert_allclose(fill_frames(bboxes[:1], np.array([5]), (5, 7)), bboxes[[0, 0]])


@pytest.fixture
def video():
    """4 frames with 2, 1, 0 and 2 detections; tube 1 is found in the first and last frame."""
    features = [np.array([[1.0, 0], [0, 1]]), np.array([[3.0, 0]]), np.zeros((0, 2)), np.eye(2) * 5]
    rows = np.array([[0, 0, -1, 1], [1, -1, -1, 0]])
    bboxes = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    return Tubes(bboxes, rows, np.zeros(2)), features


def test_pooling_counts_what_was_found(video):
    pooled, bboxes = pool_tubes(*video, num_clips=2)
    assert_allclose(pooled, [[[2, 0], [0, 5]], [[0, 1], [5, 0]]])
    assert_allclose(bboxes, video[0].bboxes.reshape(2, 2, 2, 4).mean(2))
    pooled, _ = pool_tubes(*video, num_clips=4)
    assert_allclose(pooled[0, 2], [4 / 3, 5 / 3])  # a clip without detection: the mean of the tube


def test_description_is_in_units_of_the_frame(video):
    found = describe_tubes(*video, [np.full(3, float(f)) for f in range(4)], (100, 200), 2)
    assert found['tube_feats'].shape == (2, 2, 7) and found['tube_feats'].dtype == np.float32
    assert_allclose(found['tube_boxes'][0, 0], np.array([2, 3, 4, 5]) / [200, 100, 200, 100])
    geometry = [3 / 200, 4 / 100, 2 / 200, 2 / 100, 4 / 20000]
    assert_allclose(found['tube_feats'][0, 0, 2:], geometry, rtol=1e-5)
    assert_allclose(found['frame_feats'], [[0.5] * 3, [2.5] * 3])


def test_a_video_without_detections():
    whole = Tubes(np.zeros((1, 3, 4), np.float32), np.full((1, 3), -1), np.zeros(1))
    found = describe_tubes(whole, [np.zeros((0, 5))] * 3, [np.ones(5)] * 3, (10, 10), 2)
    assert_allclose(found['tube_feats'], np.zeros((1, 2, 10)))
