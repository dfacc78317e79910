import copy
import json
from collections import Counter

import numpy as np
import pytest
from mmengine.logging import MMLogger

from mmvg.datasets import VidSTGDataset

ENTRY = {
    'vid': '7771650716',
    'fps': 29.97002997002997,
    'frame_count': 40,
    'used_segment': {'begin_fid': 5, 'end_fid': 34},
    'width': 640,
    'height': 360,
    'subject/objects': [{'tid': 0, 'category': 'dog'}, {'tid': 7, 'category': 'adult'}],
    'used_relation': {
        'subject_tid': 0,
        'object_tid': 7,
        'predicate': 'in_front_of',
        'begin_fid': 10,
        'end_fid': 14,
    },
    'temporal_gt': {'begin_fid': 10, 'end_fid': 14},
    'captions': [
        {'description': 'A dog walks in front of a man.', 'type': 'object', 'target_id': 0}
    ],
    'questions': [
        {'description': 'what walks in front of a man?', 'type': 'object', 'target_id': 0},
        {'description': 'who does a dog walk in front of?', 'type': 'person', 'target_id': 7},
    ],
}
TRUTH = ('temporal_gt', 'used_relation', 'subject/objects', 'target_id', 'type')


def changed(**changes):
    return dict(copy.deepcopy(ENTRY), **changes)


def without_truth(value):
    if isinstance(value, dict):
        return {k: without_truth(v) for k, v in value.items() if k not in TRUTH}
    return [without_truth(v) for v in value] if isinstance(value, list) else value


def box(frame, tid):
    left = 10 * frame + tid
    return dict(xmin=left, ymin=20, xmax=left + 50, ymax=100)


def vidor(num_frames=40):
    """Box file: target 0 is there but in frame 12, target 7 in frames 11 to 13, 9 in the last."""
    frames = []
    for f in range(num_frames):
        there = [t for t, frames in ((0, {*range(40)} - {12}), (7, {11, 12, 13})) if f in frames]
        frames.append(
            [dict(tid=t, bbox=box(f, t), generated=0, tracker='none') for t in there]
            + [dict(tid=9, bbox=box(f, 9), generated=1, tracker='kcf')] * (f == num_frames - 1)
        )
    return dict(version='VERSION 1.0', video_id='7771650716', trajectories=frames)


@pytest.fixture
def read(tmp_path):
    """Write the files of a small VidSTG, boxes in VidOR's numbered folders, and read it."""

    def read(entries=(ENTRY,), boxes=None, **kwargs):
        (tmp_path / 'val_annotations.json').write_text(json.dumps(list(entries)))
        folder = tmp_path / 'boxes' / 'training' / '0000'
        folder.mkdir(parents=True, exist_ok=True)
        content = vidor() if boxes is None else boxes
        (folder / '7771650716.json').write_text(json.dumps(content))
        return VidSTGDataset(
            'val_annotations.json',
            data_root=str(tmp_path),
            data_prefix=dict(video='videos', annotation='boxes'),
            **kwargs,
        )

    read.folder = tmp_path
    return read


def test_record(read):
    (record,) = read()
    assert record.pop('sample_idx') == 0
    assert record == dict(
        video_id='7771650716',
        video_path=str(read.folder / 'videos' / '7771650716.mp4'),
        fps=29.97002997002997,
        num_frames=40,
        width=640,
        height=360,
        segment=(5, 35),  # the file's end_fid of a segment is its last frame
        queries=[
            'a dog walks in front of a man.',
            'what walks in front of a man?',
            'who does a dog walk in front of?',
        ],
        query_ids=['0_d0', '0_i0', '0_i1'],
        query_types=['declarative', 'interrogative', 'interrogative'],
        source=f'{read.folder / "val_annotations.json"}: record 0',
        dataset_name='',
    )


def test_each_sentence_has_the_tube_of_its_own_target(read):
    (record,) = read(test_mode=True)
    tubes = record['tubes']
    assert [t['span'] for t in tubes] == [(10, 14)] * 3  # end_fid of an event is exclusive
    nothing = [np.nan] * 4
    dog = [nothing if f == 12 else list(box(f, 0).values()) for f in range(10, 14)]
    man = [nothing if f == 10 else list(box(f, 7).values()) for f in range(10, 14)]
    for tube, boxes in zip(tubes, (dog, dog, man), strict=True):
        np.testing.assert_array_equal(tube['bboxes'], np.float32(boxes))
        assert tube['bboxes'].dtype == np.float32


def test_event_may_end_where_the_segment_ends(read):
    entry = changed(temporal_gt={'begin_fid': 10, 'end_fid': 35})
    (record,) = read([entry], test_mode=True)
    assert record['tubes'][0]['span'] == (10, 35)
    with pytest.raises(ValueError, match='event outside the segment'):
        read([changed(temporal_gt={'begin_fid': 10, 'end_fid': 36})], test_mode=True)


def test_boxes_that_leave_the_frame_are_cut(read):
    entry = changed(width=170)  # of target 0, x1 is 10 f and x2 is 10 f + 50
    (record,) = read([entry], test_mode=True)
    np.testing.assert_array_equal(record['tubes'][0]['bboxes'][:, 2], [150, 160, np.nan, 170])


# --- weak supervision


def test_training_samples_do_not_change_without_the_truth(read):
    with_truth = list(read())
    assert with_truth == list(read([without_truth(ENTRY)]))
    wrong = changed(**dict.fromkeys(TRUTH[:3], 'wrong'))
    assert with_truth == list(read([wrong]))
    assert not {'tubes', *TRUTH} & set(with_truth[0])


class Canary(dict):
    """An object of the file that raises when somebody looks at a truth field."""

    def _look(self, key):
        if key in TRUTH:
            raise AssertionError(f'training read {key!r}')

    def __getitem__(self, key):
        self._look(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self._look(key)
        return super().__contains__(key)

    def get(self, key, default=None):
        self._look(key)
        return super().get(key, default)

    def _all(self, *args):
        raise AssertionError('training read all fields')

    __iter__ = items = keys = values = copy = _all


def test_training_does_not_look_at_the_truth(read, monkeypatch):
    expected = list(read())
    load = json.load
    monkeypatch.setattr(json, 'load', lambda f: load(f, object_hook=Canary))
    assert list(read(boxes=[])) == expected
    with pytest.raises(AssertionError, match='training read'):
        read(test_mode=True)


def test_training_opens_no_box_file(read):
    dataset = read(boxes=['broken'])
    assert len(dataset) == 1
    with pytest.raises(ValueError, match=r'7771650716\.json is not a box file of VidOR'):
        read(boxes=['broken'], test_mode=True)


# --- choices


def test_sentences_can_be_split_and_chosen(read):
    single = read(max_queries=1, test_mode=True)
    assert [r['query_ids'] for r in single] == [['0_d0'], ['0_i0'], ['0_i1']]
    assert np.isnan(single[2]['tubes'][0]['bboxes'][0]).all()  # the man, who comes a frame later
    (record,) = read(sentence_types=['declarative'], lower_case=False)
    assert record['queries'] == ['A dog walks in front of a man.']
    (record,) = read(sentence_types=['interrogative'], test_mode=True)
    assert record['query_ids'] == ['0_i0', '0_i1'] and len(record['tubes']) == 2
    with pytest.raises(ValueError, match="'declarative' and 'interrogative', got 'what'"):
        read(sentence_types='what')


def test_records_without_a_chosen_sentence_are_counted(read, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        dataset = read([changed(questions=[]), ENTRY], sentence_types=['interrogative'])
    finally:
        logger.removeHandler(caplog.handler)
    assert [r['query_ids'] for r in dataset] == [['1_i0', '1_i1']]
    assert '1 records without a sentence that is interrogative left out' in caplog.text


def test_video_list(read):
    (read.folder / 'val_files.json').write_text('["7771650716", "5"]')
    entries = [changed(vid='8'), ENTRY]
    dataset = read(entries, video_list='val_files.json')
    assert [r['query_ids'][0] for r in dataset] == ['1_d0']
    assert dataset.remarks == {'records of videos that are not listed left out': 1}
    with pytest.raises(FileNotFoundError, match=r'test_files\.json does not exist'):
        read(video_list='test_files.json')


def test_videos_are_found_in_numbered_folders_or_as_frames(read):
    (read.folder / 'videos' / '0042').mkdir(parents=True)
    (read.folder / 'videos' / '0042' / '7771650716.mp4').write_bytes(b'')
    (read.folder / 'videos' / '8').mkdir()
    paths = [r['video_path'] for r in read([ENTRY, changed(vid='8')])]
    videos = read.folder / 'videos'
    assert paths == [str(videos / '0042' / '7771650716.mp4'), str(videos / '8')]


# --- bad files


@pytest.mark.parametrize(
    'entry, problem',
    [
        ('text', 'malformed record'),
        (changed(vid=5), 'malformed record: "vid" is 5, which is not text'),
        ({k: v for k, v in ENTRY.items() if k != 'fps'}, "malformed record: it has no 'fps'"),
        (changed(fps=0), 'bad fps'),
        (changed(captions=[{'description': None, 'target_id': 0}]), 'empty query'),
        (changed(captions=[5]), 'malformed record'),
        (changed(used_segment={'begin_fid': 5, 'end_fid': 40}), 'segment outside the video'),
        (changed(used_segment={'begin_fid': 5, 'end_fid': '9'}), 'malformed record'),
        (changed(used_segment={'begin_fid': '5', 'end_fid': 9}), 'bad segment'),
        (changed(temporal_gt={'begin_fid': 4, 'end_fid': 9}), 'event outside the segment'),
        (changed(temporal_gt={'begin_fid': 9, 'end_fid': 9}), 'malformed record: the event is'),
        (changed(captions=[{'description': 'a', 'target_id': 3}]), 'malformed record: .*target 3'),
        (changed(captions=[{'description': 'a', 'target_id': 9}]), 'no box'),
        (changed(vid='8'), r'malformed record: there is no 8\.json'),
    ],
)
def test_bad_record_follows_invalid(entry, problem, read):
    with pytest.raises(ValueError, match=rf'val_annotations\.json: record 1: {problem}'):
        read([ENTRY, entry], test_mode=True)
    (kept,) = read([ENTRY, entry], test_mode=True, invalid='skip')
    assert kept['query_ids'][0] == '0_d0'


def test_box_file_that_is_too_short(read):
    with pytest.raises(ValueError, match=r'7771650716\.json has 13 frames, too few'):
        read(boxes=vidor(13), test_mode=True)


def test_absent_and_wrong_files(read):
    with pytest.raises(FileNotFoundError, match=r'absent\.json does not exist.*VidSTG-Dataset'):
        VidSTGDataset('absent.json')
    (read.folder / 'list.json').write_text('{}')
    with pytest.raises(ValueError, match=r'list\.json holds a dict'):
        VidSTGDataset('list.json', data_root=str(read.folder))
    read()
    with pytest.raises(FileNotFoundError, match=r'nowhere does not exist.*box files of VidOR'):
        VidSTGDataset(
            'val_annotations.json',
            data_root=str(read.folder),
            data_prefix=dict(annotation='nowhere'),
            test_mode=True,
        )


# --- real files


@pytest.fixture(scope='module')
def annotations(samples):
    return samples / 'vidstg' / 'annotations'


def test_counts_of_the_real_validation_file(annotations):
    path = annotations / 'val_annotations.json'
    dataset = VidSTGDataset(str(path), video_list=str(annotations / 'val_files.json'))
    stored = json.loads(path.read_text())
    assert len(dataset) == len(stored) == 3996 and not dataset.remarks
    types, videos, ids = Counter(), set(), set()
    for record, entry in zip(dataset, stored, strict=True):
        types.update(record['query_types'])
        videos.add(record['video_id'])
        ids.update(record['query_ids'])
        assert record['query_types'].count('declarative') == 1 and len(record['queries']) <= 3
        begin, end = record['segment']
        truth = entry['temporal_gt']
        assert begin <= truth['begin_fid'] < truth['end_fid'] <= end <= record['num_frames']
    assert types == dict(declarative=3996, interrogative=4960)
    assert len(videos) == 602 and len(ids) == 8956
    # 744 events end with the video, and all of them with the segment: both ends are exclusive.
    last = [r for r, e in zip(dataset, stored) if e['temporal_gt']['end_fid'] == r['num_frames']]
    assert len(last) == 744 and all(r['segment'][1] == r['num_frames'] for r in last)
    questions = VidSTGDataset(str(path), sentence_types=['interrogative'], max_queries=1)
    assert len(questions) == 4960


def test_splits_of_the_real_files_are_disjoint(annotations):
    splits = {
        name: json.loads((annotations / f'{name}_files.json').read_text())
        for name in ('train', 'val', 'test')
    }
    assert {n: len(ids) for n, ids in splits.items()} == dict(train=5563, val=618, test=743)
    assert len({i for ids in splits.values() for i in ids}) == 5563 + 618 + 743
    used = {
        'val': VidSTGDataset(str(annotations / 'val_annotations.json')),
        'test': VidSTGDataset(str(annotations / 'test_annotations_first300.json')),
    }
    for name, dataset in used.items():
        assert {r['video_id'] for r in dataset} <= set(splits[name])
    nothing = str(annotations / 'train_files.json')
    with pytest.raises(ValueError, match='no usable record'):
        VidSTGDataset(str(annotations / 'val_annotations.json'), video_list=nothing)


def test_real_training_samples_do_not_need_the_truth(annotations, tmp_path):
    path = annotations / 'test_annotations_first300.json'
    stripped = tmp_path / path.name
    stripped.write_text(json.dumps(without_truth(json.loads(path.read_text()))))
    for record, bare in zip(VidSTGDataset(str(path)), VidSTGDataset(str(stripped)), strict=True):
        assert record.pop('source') != bare.pop('source')
        assert record == bare
