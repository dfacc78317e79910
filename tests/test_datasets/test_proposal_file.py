import copy
import json
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest

from mmvg.datasets.proposal_file import ProposalFile
from mmvg.datasets.proposal_writer import ProposalWriter

META = dict(detector='none', classes=['cat', 'dog'])


def boxes_of(count, seed=0):
    rng = np.random.default_rng(seed)
    bboxes = rng.random((count, 4)).astype(np.float32) * 100
    bboxes[:, 2:] += bboxes[:, :2]
    return bboxes, rng.random(count).astype(np.float32), rng.integers(-1, 1600, count)


def write(path, names, features=None, **kwargs):
    with ProposalWriter(path, META, **kwargs) as writer:
        for i, name in enumerate(names):
            if name not in writer.done:
                values = boxes_of(i + 1, seed=i)
                extra = None if features is None else np.full((i + 1, 3), i, features)
                writer.add(name, *values, size=(80 + i, 100), features=extra)
    return path


@pytest.fixture
def stored(tmp_path):
    """File of three pictures of 1, 2 and 3 boxes, not in the order of their names."""
    return write(tmp_path / 'proposals', ['c.jpg', 'a.jpg', 'ü/b.jpg'])


def test_round_trip_gives_the_best_box_first(stored):
    file = ProposalFile(stored)
    assert file.keys() == ['a.jpg', 'c.jpg', 'ü/b.jpg'] and len(file) == 3
    assert 'a.jpg' in file and 'a.jp' not in file and 'a.jpgx' not in file and 'z' not in file
    assert file.meta['classes'] == ['cat', 'dog']
    for i, name in enumerate(['c.jpg', 'a.jpg', 'ü/b.jpg']):
        bboxes, scores, labels = boxes_of(i + 1, seed=i)
        order = np.argsort(-scores)
        found = file.get(name)
        np.testing.assert_array_equal(found.bboxes, bboxes[order])
        np.testing.assert_array_equal(found.scores, scores[order])
        np.testing.assert_array_equal(found.labels, labels[order])
        assert found.bboxes.dtype == np.float32 and found.labels.dtype == np.int64
        assert found.size == (80 + i, 100) and found.features is None
        found.bboxes[:] = 0  # a copy: the file is as it was
    assert file.get('c.jpg').bboxes.any()


def test_first_known_key_counts(stored):
    file = ProposalFile(stored)
    assert len(file.get('7', 'a.jpg', 'c.jpg').bboxes) == 2


def test_no_boxes_and_unknown_size(tmp_path):
    with ProposalWriter(tmp_path / 'p', META) as writer:
        writer.add('1', np.zeros((0, 4)), [], [])
    found = ProposalFile(tmp_path / 'p').get('1')
    assert found.bboxes.shape == (0, 4) and found.size is None
    with ProposalWriter(tmp_path / 'empty', META):
        pass
    assert len(ProposalFile(tmp_path / 'empty')) == 0 and '' not in ProposalFile(tmp_path / 'empty')


def test_arrays_are_plain_numpy_files(stored):
    rows = np.load(stored / 'boxes.npy', allow_pickle=False)
    assert rows.shape == (6,) and rows['bbox'].shape == (6, 4)


@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_features_follow_their_boxes(tmp_path, dtype):
    path = tmp_path / 'p'
    bboxes, scores, labels = boxes_of(4)
    features = np.arange(8, dtype=dtype).reshape(4, 2)
    with ProposalWriter(path, META) as writer:
        writer.add('none', np.zeros((0, 4)), [], [])  # a picture without boxes comes first
        writer.add('a', bboxes, scores, labels, features=features)
    with ProposalWriter(path, META) as writer:  # and again, on what is there
        writer.add('b', bboxes, scores, labels, features=features + 8)
    file = ProposalFile(path)
    for name, shift in (('a', 0), ('b', 8)):
        found = file.get(name, with_features=True)
        assert found.features.dtype == dtype
        np.testing.assert_array_equal(found.features, features[np.argsort(-scores)] + shift)
    assert file.get('none', with_features=True).features.shape == (0, 2)
    assert file.get('a').features is None


def test_copies_are_small_and_read_the_same_pages(stored):
    file = ProposalFile(stored)
    assert len(pickle.dumps(file)) < 1000
    for other in (pickle.loads(pickle.dumps(file)), copy.deepcopy(file)):
        np.testing.assert_array_equal(other.get('c.jpg').bboxes, file.get('c.jpg').bboxes)
        assert isinstance(other._boxes, np.memmap)


def test_pictures_are_added_later(stored):
    before = ProposalFile(stored)  # a training that runs meanwhile
    names = [f'{i}.png' for i in range(5)]
    with ProposalWriter(stored, META) as writer:
        assert writer.done == {'c.jpg', 'a.jpg', 'ü/b.jpg'}
        for name in names:
            writer.add(name, *boxes_of(7, seed=9))
        assert writer.counts() == [1, 2, 3, 7, 7, 7, 7, 7]
    assert len(before.get('a.jpg').bboxes) == 2 and '0.png' not in before
    after = ProposalFile(stored)
    assert len(after) == 8 and len(after.get('4.png').bboxes) == 7
    np.testing.assert_array_equal(after.get('a.jpg').bboxes, before.get('a.jpg').bboxes)


def test_a_run_with_nothing_to_do_leaves_the_file_alone(stored):
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in stored.iterdir()}
    write(stored, ['a.jpg'])
    for path in stored.iterdir():
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before[path.name]


# --- interruption


def test_error_keeps_what_is_done_and_the_file_is_unfinished(tmp_path):
    path, names = tmp_path / 'p', [f'{i}' for i in range(9)]
    with pytest.raises(RuntimeError), ProposalWriter(path, META) as writer:
        for i in range(5):
            writer.add(names[i], *boxes_of(i + 1, seed=i), size=(80 + i, 100))
        raise RuntimeError('stopped')
    with pytest.raises(ValueError, match='is not finished; run the command .* again'):
        ProposalFile(path)
    write(path, names)
    whole = write(tmp_path / 'whole', names)
    for name in ('boxes.npy', 'index.npy', 'journal.jsonl'):
        assert (path / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize('lost', [1, 7, 30, 70])
@pytest.mark.parametrize(
    'name, features',
    [
        ('boxes.npy', None),
        ('journal.jsonl', None),
        ('boxes.npy', np.float16),
        ('features.npy', np.float16),
        ('journal.jsonl', np.float16),
    ],
)
def test_half_written_pictures_are_written_again(tmp_path, name, lost, features):
    """Each file may end anywhere; the others may be ahead of it."""
    names = [f'{i}' for i in range(8)]
    path = write(tmp_path / 'p', names, features)
    whole = write(tmp_path / 'whole', names, features)
    (path / 'index.npy').unlink()
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-lost])
    with ProposalWriter(path, META) as writer:
        kept = len(writer.done)
    assert 0 < kept < 8
    write(path, names, features)
    for file in whole.iterdir():
        assert (path / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize('surplus', [5, 24, 100])
def test_what_lies_behind_the_last_picture_is_cut_off(tmp_path, surplus):
    path, whole = write(tmp_path / 'p', '12'), write(tmp_path / 'whole', '123')
    with open(path / 'boxes.npy', 'ab') as f:
        f.write(b'x' * surplus)
    write(path, '123')
    assert (path / 'boxes.npy').read_bytes() == (whole / 'boxes.npy').read_bytes()


def write_and_die(path):
    writer = ProposalWriter(path, META, commit_every=4)
    for i in range(10):
        writer.add(str(i), np.tile([0.0, 0.0, i + 1.0, 1.0], (3, 1)), [1, 1, 1], [0, 0, 0])
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_process(tmp_path):
    path = tmp_path / 'p'
    process = multiprocessing.get_context('fork').Process(target=write_and_die, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with ProposalWriter(path, META) as writer:
        assert writer.done == {str(i) for i in range(8)}  # two commits of four
        writer.add('8', np.array([[0.0, 0.0, 9.0, 1.0]]), [1], [0])
    file = ProposalFile(path)
    assert [file.get(str(i)).bboxes[0, 2] for i in range(9)] == list(range(1, 10))


def test_a_killed_process_may_leave_half_a_description(tmp_path):
    (tmp_path / '.meta.json.1.part').write_text('{"format"')
    with ProposalWriter(tmp_path, dict(classes=['a'])) as writer:
        writer.add('a.jpg', np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    assert ProposalFile(tmp_path).meta['classes'] == ['a']


def test_two_writers_at_a_time_are_refused(stored):
    with ProposalWriter(stored, META), pytest.raises(ValueError, match='another process'):
        ProposalWriter(stored, META)


# --- what is wrong is named


def test_missing_file_and_picture_name_the_command(tmp_path, stored):
    with pytest.raises(FileNotFoundError, match=r'nowhere does not exist; .*extract_proposals.py'):
        ProposalFile(tmp_path / 'nowhere')
    with pytest.raises(
        ValueError, match=r"no picture '5' or 'x.jpg' among its 3; .*extract_proposals.py CONFIG"
    ):
        ProposalFile(stored).get('5', 'x.jpg')
    with pytest.raises(ValueError, match='has no features; .*--features float16'):
        ProposalFile(stored).get('a.jpg', with_features=True)


def test_other_folders_are_neither_read_nor_written(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    for use in (ProposalFile, lambda path: ProposalWriter(path, META)):
        for path in (tmp_path, tmp_path / 'notes.txt'):
            with pytest.raises(ValueError, match='is not a proposal file'):
                use(path)
    assert [p.name for p in tmp_path.iterdir()] == ['notes.txt']


def test_another_detector_is_refused(stored):
    with pytest.raises(ValueError, match=r'made in another way \(detector none\)'):
        ProposalWriter(stored, {**META, 'detector': 'other'})


@pytest.mark.parametrize('name', ['boxes.npy', 'index.npy'])
def test_damaged_arrays_are_named(stored, name):
    content = (stored / name).read_bytes()
    for damaged in (content[:-20], b'', pickle.dumps([1])):
        (stored / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f'has a damaged {name} .*extract_proposals.py'):
            ProposalFile(stored)
    np.save(stored / name, np.zeros(9))
    with pytest.raises(ValueError, match='arrays of another type'):
        ProposalFile(stored)


def test_index_that_reaches_beyond_the_boxes(stored, tmp_path):
    other = write(tmp_path / 'other', ['a.jpg'])
    (stored / 'boxes.npy').write_bytes((other / 'boxes.npy').read_bytes())
    with pytest.raises(ValueError, match='has 1 boxes, but its index asks for 6'):
        ProposalFile(stored)


def test_meta_of_another_version(stored):
    meta = json.loads((stored / 'meta.json').read_text())
    (stored / 'meta.json').write_text(json.dumps({**meta, 'format': 'mmvg proposals 9'}))
    with pytest.raises(ValueError, match="not a proposal file of this .* 'mmvg proposals 9'"):
        ProposalFile(stored)


@pytest.mark.parametrize(
    'values, message',
    [
        (([[0, 0, 1, 1]], [1, 2], [0]), 'boxes, scores and labels of .x. have shapes'),
        (([[0, 0, 1]], [1], [0]), 'have shapes'),
        (([[0, 0, float('nan'), 1]], [1], [0]), 'finite numbers'),
        (([[0, 0, 1, 1]], [float('inf')], [0]), 'finite numbers'),
        (([[5, 0, 1, 1]], [1], [0]), r'box \[5.0, 0.0, 1.0, 1.0\] with score 1'),
        (([[0, 0, 1, 1]], [1], [-2]), 'a label of -1 or more'),
        (([[0, 0, 1, 1]], [1], [0.5]), 'a label of -1 or more'),
    ],
)
def test_wrong_arrays_name_the_picture(stored, values, message):
    with ProposalWriter(stored, META) as writer:
        with pytest.raises(ValueError, match=message):
            writer.add('x', *map(np.array, values))
        with pytest.raises(ValueError, match="'a.jpg' is there already"):
            writer.add('a.jpg', *boxes_of(1))
    assert len(ProposalFile(stored)) == 3


def test_features_of_all_or_none(tmp_path, stored):
    features = np.zeros((2, 3), np.float32)
    with ProposalWriter(stored, META) as writer, pytest.raises(ValueError, match='all .* or none'):
        writer.add('x', *boxes_of(2), features=features)
    with ProposalWriter(tmp_path / 'p', META) as writer:
        with pytest.raises(ValueError, match='float16 or float32 of'):
            writer.add('x', *boxes_of(2), features=features.astype(int))
        writer.add('x', *boxes_of(2), features=features)
        with pytest.raises(ValueError, match='all .* or none'):
            writer.add('y', *boxes_of(2))
        with pytest.raises(ValueError, match=r'float32 of \(2, 3\) are needed'):
            writer.add('y', *boxes_of(2), features=features[:, :2])
