import json

import numpy as np
import pytest
from mmengine.logging import MMLogger

from mmvg.datasets import HCSTVGDataset

V1 = dict(
    bbox=[[10, 20, 30, 40], [12, 20, 30, 40], [14, 20, 30, 40]],
    st_time=8.9,
    ed_time=9.0,
    img_num=600,
    caption='The woman in red clothes turns in a circle.',
    width=640,
    height=360,
    st_frame=268,
)
V2 = dict(
    bbox=[[600, -5, 60, 40], [10, 20, -3, 40], [12, 20, 30, 40]],
    st_time=0.0,
    ed_time=0.1,
    img_num=501,
    English='The man stands up.',
    Chinese='男人站起来。',
    img_size=[360, 640, 3],
    st_frame=1,
)
TRUTH = ('bbox', 'st_frame', 'st_time', 'ed_time')


@pytest.fixture
def read(tmp_path):
    def read(entries, **kwargs):
        (tmp_path / 'test.json').write_text(json.dumps(entries), encoding='utf-8')
        return HCSTVGDataset(
            'test.json', data_root=str(tmp_path), data_prefix=dict(video='video'), **kwargs
        )

    read.folder = tmp_path
    return read


def test_first_version(read):
    (record,) = read({'55_vfjywN5CN0Y.mp4': V1}, test_mode=True)
    (tube,) = record.pop('tubes')
    assert tube['span'] == (267, 270)  # st_frame counts from 1
    boxes = [[10, 20, 40, 60], [12, 20, 42, 60], [14, 20, 44, 60]]
    np.testing.assert_array_equal(tube['bboxes'], np.float32(boxes))
    assert tube['bboxes'].dtype == np.float32
    assert record.pop('sample_idx') == 0
    assert record == dict(
        video_id='55_vfjywN5CN0Y.mp4',
        video_path=str(read.folder / 'video' / '55_vfjywN5CN0Y.mp4'),
        fps=30.0,
        num_frames=600,
        width=640,
        height=360,
        segment=(0, 600),
        queries=['the woman in red clothes turns in a circle.'],
        query_ids=['55_vfjywN5CN0Y.mp4'],
        query_types=['declarative'],
        source=f"{read.folder / 'test.json'}: record '55_vfjywN5CN0Y.mp4'",
        dataset_name='',
    )


def test_second_version_with_bad_boxes(read, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        first, second = read({'a.mp4': V1, 'b.mkv': V2}, test_mode=True, lower_case=False)
    finally:
        logger.removeHandler(caplog.handler)
    assert first['queries'] == [V1['caption']] and second['queries'] == ['The man stands up.']
    assert (second['width'], second['height'], second['fps']) == (640, 360, 25.05)
    (tube,) = second['tubes']
    assert tube['span'] == (0, 3)
    boxes = [[600, 0, 640, 35], [np.nan] * 4, [12, 20, 42, 60]]
    np.testing.assert_array_equal(tube['bboxes'], np.float32(boxes))
    assert '1 boxes cut at the border of the frame, 1 boxes without area left out' in caplog.text


def test_training_reads_no_truth(read):
    entries = {'a.mp4': V1, 'b.mkv': V2}
    stripped = {n: {k: v for k, v in e.items() if k not in TRUTH} for n, e in entries.items()}
    with_truth = list(read(entries))
    assert with_truth == list(read(stripped)) and len(with_truth) == 2
    assert not any('tubes' in r for r in with_truth)
    wrong = {n: dict(e, **dict.fromkeys(TRUTH, 'wrong')) for n, e in entries.items()}
    assert with_truth == list(read(wrong))
    with pytest.raises(ValueError, match="'a.mp4': malformed record: it has no 'st_frame'"):
        read(stripped, test_mode=True)


@pytest.mark.parametrize(
    'change, problem',
    [
        (dict(caption=None), 'empty query'),
        (dict(width=0), 'bad width'),
        (dict(img_num='600'), 'malformed record'),
        (dict(img_num=200), 'event outside the segment: that of query 0 is frames 267 to 270'),
        (dict(bbox=[]), 'event outside the segment'),
        (dict(bbox=[[1, 2, 3]]), 'malformed record'),
        (dict(bbox=[[1, 2, 0, 3]]), 'no box'),
        (dict(st_frame=0), 'event outside the segment'),
        (dict(English='A man.'), "malformed record: it has no 'img_size'"),
        (dict(English='A man.', img_size=[]), 'malformed record'),
    ],
)
def test_bad_record_follows_invalid(change, problem, read):
    entries = {'good.mp4': V1, 'bad.mp4': dict(V1, **change)}
    with pytest.raises(ValueError, match=rf"test\.json: record 'bad\.mp4': {problem}.*invalid"):
        read(entries, test_mode=True)
    (kept,) = read(entries, test_mode=True, invalid='skip')
    assert kept['video_id'] == 'good.mp4'


def test_absent_and_broken_videos_are_left_out_when_asked_for(read, videos):
    (read.folder / 'video' / 'part1').mkdir(parents=True)
    good = videos.write('good.mkv', 20).rename(read.folder / 'video' / 'part1' / 'good.mkv')
    (read.folder / 'video' / 'broken.mp4').write_bytes(b'')
    entries = {n: V1 for n in ('good.mp4', 'broken.mp4', 'absent.mp4')}
    (kept,) = read(entries, check_videos=True, invalid='skip')
    assert kept['video_path'] == str(good)  # found by its name, whatever the extension
    assert len(read(entries)) == 3


def test_wrong_file(read):
    with pytest.raises(ValueError, match=r'test\.json holds a list, but should be train\.json'):
        read([V1])


def test_real_entries(samples):
    folder = samples / 'hc_stvg'
    dataset = HCSTVGDataset(str(folder / 'test_2_entries.json'), test_mode=True)
    stored = json.loads((folder / 'test_2_entries.json').read_text())
    assert len(dataset) == 2
    for record, (name, entry) in zip(dataset, stored.items(), strict=True):
        (tube,) = record['tubes']
        assert record['video_id'] == name and record['fps'] == entry['img_num'] / 20
        assert tube['span'] == (entry['st_frame'] - 1, entry['st_frame'] - 1 + len(entry['bbox']))
        assert not np.isnan(tube['bboxes']).any()
        # The first box is shown st_time after the start; the times, not the boxes, are 1 off.
        assert abs(tube['span'][0] / record['fps'] - entry['st_time']) < 1.5 / record['fps']
        x, y, w, h = entry['bbox'][0]
        np.testing.assert_array_equal(tube['bboxes'][0], [x, y, x + w, y + h])
    # These two have no boxes: they can be trained on and answered, but not evaluated.
    path = str(folder / 'test_meta_2_more.json')
    assert [r['num_frames'] for r in HCSTVGDataset(path)] == [501, 600]
    assert len(HCSTVGDataset(path, test_mode=True, with_truth=False)) == 2
