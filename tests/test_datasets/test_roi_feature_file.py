import json
import pickle

import numpy as np
import pytest

from mmvg.datasets.proposal_file import ProposalFile, Proposals
from mmvg.datasets.roi_feature_file import RoIFeatureFile, RoIFeatures, RoIFeatureWriter

SOURCE = dict(backbone='abc')


def features_of(index, maps='float16', features='float32'):
    """Picture i has i boxes, 5 values each, and a map of 3 x (i + 1) x 4."""
    rng = np.random.default_rng(index)
    boxes = np.array([[0, 0, i + 1, i + 2] for i in range(index)], np.float32).reshape(-1, 4)
    proposals = Proposals(
        boxes,
        np.linspace(1, 0.5, index, dtype=np.float32),
        np.arange(index),
        rng.random((index, 5)).astype(features),
        (40 + index, 60),
    )
    homography = np.array([[1.5, 0, index / 3], [0, 2 / 3, 0], [0, 0, 1]])
    feature_map = None if maps == 'none' else rng.random((3, index + 1, 4)).astype(maps)
    return RoIFeatures(proposals, (80, 90 + index), homography, feature_map)


def write(path, names='0123', maps='float16', **kwargs):
    with RoIFeatureWriter(path, dict(source=SOURCE, maps=maps), **kwargs) as writer:
        for name in names:
            if name not in writer.done:
                writer.add_features(name, features_of(int(name), maps))
    return path


def assert_same(found, expected):
    for a, b in zip(found.proposals, expected.proposals, strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.input_size == expected.input_size
    np.testing.assert_array_equal(found.homography, expected.homography)
    np.testing.assert_array_equal(found.feature_map, expected.feature_map)
    assert found.proposals.features.dtype == expected.proposals.features.dtype


@pytest.mark.parametrize('maps', ['none', 'float16', 'float32'])
def test_round_trip(tmp_path, maps):
    file = RoIFeatureFile(write(tmp_path / 'f', '3102', maps))
    assert file.has_maps == (maps != 'none') and file.meta['source'] == SOURCE
    for copied in (file, pickle.loads(pickle.dumps(file))):
        for i in range(4):
            found = copied.load('unknown', str(i), with_map=maps != 'none')
            assert_same(found, features_of(i, maps))
    found.proposals.features[:] = 0  # a copy: the file is as it was
    assert_same(file.load('3', with_map=maps != 'none'), features_of(3, maps))
    assert file.load('2').feature_map is None


@pytest.mark.parametrize('lost', [1, 7, 30, 90])
@pytest.mark.parametrize('name', ['boxes.npy', 'features.npy', 'maps.npy', 'journal.jsonl'])
def test_half_written_pictures_are_written_again(tmp_path, name, lost):
    """Each file may end anywhere; the others may be ahead of it."""
    path, whole = write(tmp_path / 'f'), write(tmp_path / 'whole')
    (path / 'index.npy').unlink()
    (path / name).write_bytes((path / name).read_bytes()[:-lost])
    with RoIFeatureWriter(path, dict(source=SOURCE, maps='float16')) as writer:
        assert 0 < len(writer.done) < 4
    write(path)
    for file in whole.iterdir():
        assert (path / file.name).read_bytes() == file.read_bytes()


def test_commits_between_pictures_hold_their_maps(tmp_path):
    path = tmp_path / 'f'
    with (
        pytest.raises(RuntimeError),
        RoIFeatureWriter(path, dict(source=SOURCE, maps='float16'), commit_every=1) as writer,
    ):
        for i in range(3):
            writer.add_features(str(i), features_of(i))
        raise RuntimeError('stopped')
    with pytest.raises(ValueError, match='RoI feature file .* is not finished'):
        RoIFeatureFile(path)
    write(path)
    whole = write(tmp_path / 'whole')
    assert (path / 'maps.npy').read_bytes() == (whole / 'maps.npy').read_bytes()
    assert_same(RoIFeatureFile(path).load('3', with_map=True), features_of(3))


def test_what_does_not_fit_is_refused(tmp_path):
    path = write(tmp_path / 'f')
    with pytest.raises(ValueError, match=r"made in another way \(source {'backbone': 'abc'}\)"):
        RoIFeatureWriter(path, dict(source={}, maps='float16'))
    with RoIFeatureWriter(path, dict(source=SOURCE, maps='float16')) as writer:
        with pytest.raises(ValueError, match="either all pictures have maps or none; '5' differs"):
            writer.add_features('5', features_of(5, 'none'))
        with pytest.raises(ValueError, match="maps must be float16; that of '5' is not"):
            writer.add_features('5', features_of(5, 'float32'))
        for bad in (np.diag([-1.0, 1, 1]), np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]])):
            with pytest.raises(ValueError, match='rotated, sheared or flipped'):
                writer.add_features('5', features_of(5)._replace(homography=bad))
        endless = features_of(5)
        endless.feature_map[0, 0, 0] = np.inf
        with pytest.raises(ValueError, match="'5' are not finite as float16; use float32"):
            writer.add_features('5', endless)
    assert len(RoIFeatureFile(path)) == 4


def test_mistakes_in_reading_name_the_command(tmp_path):
    command = 'extract_roi_features.py CONFIG --out'
    with pytest.raises(FileNotFoundError, match=f'RoI feature file .* does not exist; .*{command}'):
        RoIFeatureFile(tmp_path / 'nowhere')
    file = RoIFeatureFile(write(tmp_path / 'f', maps='none'))
    with pytest.raises(ValueError, match=f"no picture 'x' among its 4; .*{command}"):
        file.load('x')
    with pytest.raises(ValueError, match='has no feature maps; .* --maps float16'):
        file.load('1', with_map=True)
    with pytest.raises(ValueError, match='is not a proposal file of this version'):
        ProposalFile(tmp_path / 'f')
    with pytest.raises(ValueError, match='none of its pictures has proposals'):
        RoIFeatureFile(write(tmp_path / 'empty', '0'))
    path = write(tmp_path / 'cut')
    np.save(path / 'maps.npy', np.zeros(7, np.float16))
    with pytest.raises(ValueError, match='has 7 map values, but its index asks for 120'):
        RoIFeatureFile(path)
    meta = json.loads((path / 'meta.json').read_text())
    (path / 'meta.json').write_text(json.dumps({**meta, 'format': 'mmvg RoI features 0'}))
    with pytest.raises(ValueError, match="is not a RoI feature file .*'mmvg RoI features 0'"):
        RoIFeatureFile(path)
