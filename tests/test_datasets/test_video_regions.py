import copy
import pickle

import numpy as np
import pytest

from mmvg.datasets.proposal_writer import ProposalWriter
from mmvg.datasets.video_regions import VideoRegions, VideoRegionWriter
from mmvg.structures.regions import Regions

META = dict(detector='none')


def regions_of(count, seed=0, dims=6):
    rng = np.random.default_rng(seed)
    bboxes = rng.random((count, 4)).astype(np.float32) * 20
    bboxes[:, 2:] += bboxes[:, :2]
    return Regions(
        bboxes,
        np.sort(rng.random(count).astype(np.float32))[::-1],
        rng.integers(0, 80, count),
        rng.standard_normal((count, dims)).astype(np.float32),
        rng.standard_normal(dims).astype(np.float32),
        (48, 64),
    )


def write(path, frames, **kwargs):
    """Frame f of video v has f % 4 boxes."""
    with VideoRegionWriter(path, META, **kwargs) as writer:
        for video, frame in frames:
            writer.add_frame(video, frame, regions_of(frame % 4, frame))


def assert_same(found, expected, tolerance=0):
    for one, other in zip(found[:5], expected[:5], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=0)
    assert found.size == expected.size


FRAMES = [('a', f) for f in (0, 2, 7, 10, 101)] + [('a/b', 2), ('a', 3)]


@pytest.mark.parametrize('dtype, tolerance', [('float32', 0), ('float16', 1e-3)])
def test_frames_come_back_in_the_order_that_is_wanted(tmp_path, dtype, tolerance):
    write(tmp_path / 'out', FRAMES, dtype=dtype)
    file = VideoRegions(tmp_path / 'out')
    for wanted in ([0, 2, 7, 10, 101], [10, 3, 2, 2, 101], [0], np.array([7, 3])):
        found = file.get('a', wanted)
        for frame, regions in zip(wanted, found, strict=True):
            assert_same(regions, regions_of(frame % 4, frame), tolerance)
            assert regions.features.dtype == np.float32 and regions.labels.dtype == np.int64
    assert file.get('a', []) == []
    (only,) = file.get('a/b', [2])
    assert_same(only, regions_of(2, 2), tolerance)
    only.bboxes[:] = -1  # a copy: the file is as it was
    assert_same(file.get('a/b', [2])[0], regions_of(2, 2), tolerance)


def test_frame_without_boxes_has_its_own_feature(tmp_path):
    write(tmp_path / 'out', [('v', 0), ('v', 4)])
    for regions, seed in zip(VideoRegions(tmp_path / 'out').get('v', [0, 4]), (0, 4), strict=True):
        assert regions.bboxes.shape == (0, 4) and regions.features.shape == (0, 6)
        np.testing.assert_array_equal(regions.frame_feature, regions_of(0, seed).frame_feature)


def test_copies_and_pickles_open_the_file_anew(tmp_path):
    write(tmp_path / 'out', FRAMES)
    file = VideoRegions(tmp_path / 'out')
    for other in (copy.deepcopy(file), pickle.loads(pickle.dumps(file))):
        assert_same(other.get('a', [7])[0], regions_of(3, 7))
    assert len(pickle.dumps(file)) < 500


def test_absent_frames_are_named(tmp_path):
    write(tmp_path / 'out', FRAMES)
    file = VideoRegions(tmp_path / 'out')
    with pytest.raises(ValueError, match="has not frame 5 of video 'a', nor 1 others of the 3"):
        file.get('a', [2, 5, 1010101])
    with pytest.raises(ValueError, match=r'extract_video_regions.py .* --out .*/out \(it keeps'):
        file.get('b', [2])
    write(tmp_path / 'empty', [])
    with pytest.raises(ValueError, match="frame 0 of video 'a'"):
        VideoRegions(tmp_path / 'empty').get('a', [0])


def test_frames_are_added_later(tmp_path):
    write(tmp_path / 'out', FRAMES[:4])
    write(tmp_path / 'out', FRAMES[4:])
    assert_same(VideoRegions(tmp_path / 'out').get('a', [10, 101])[1], regions_of(1, 101))
    with pytest.raises(ValueError, match=r'was made in another way \(features float32\)'):
        write(tmp_path / 'out', [('c', 1)], dtype='float16')
    with pytest.raises(ValueError, match='is there already'):
        write(tmp_path / 'out', FRAMES[:1])


def test_other_files_and_bad_features_are_refused(tmp_path):
    with ProposalWriter(tmp_path / 'proposals', META):
        pass
    with pytest.raises(ValueError, match='is not a video region file'):
        VideoRegions(tmp_path / 'proposals')
    with pytest.raises(FileNotFoundError, match=r'video region file .* make it with tools/'):
        VideoRegions(tmp_path / 'absent')
    with VideoRegionWriter(tmp_path / 'out', META, dtype='float16') as writer:
        large = regions_of(1)._replace(frame_feature=np.full(6, 1e6, np.float32))
        with pytest.raises(ValueError, match="frame 3 of video 'v' are not finite"):
            writer.add_frame('v', 3, large)
