import numpy as np
import pytest
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from mmvg.datasets import VideoGroundingDataset
from mmvg.datasets.video_regions import VideoRegionWriter
from mmvg.structures.regions import Regions
from mmvg.text import QueryParser


class Records(VideoGroundingDataset):
    """A data set of given records."""

    def __init__(self, records, **kwargs):
        self.records = records
        super().__init__(**kwargs)

    def load_data_list(self):
        for record in self.records:
            if not self.with_truth:
                record = {k: v for k, v in record.items() if k != 'tubes'}
            yield record


def tube(begin=2, end=5, boxes=None):
    boxes = [[1, 2, 30, 40]] * (end - begin) if boxes is None else boxes
    return dict(span=(begin, end), bboxes=np.array(boxes, np.float32).reshape(-1, 4))


def record(count=1, **changes):
    return dict(
        dict(
            video_id='v',
            video_path='v.mp4',
            fps=25.0,
            num_frames=10,
            width=100,
            height=50,
            segment=(1, 9),
            queries=[f'a man {i}' for i in range(count)],
            query_ids=list(range(count)),
            query_types=['declarative'] * count,
            source='val.json: record 3',
            tubes=[tube(2 + i, 5 + i) for i in range(count)],
        ),
        **changes,
    )


NAN = float('nan')
BAD = {
    'no query': record(0),
    'empty query': record(queries=[' ']),
    'no word': record(queries=['????']),
    'no word: query 1 is .\\(_\\).': record(2, queries=['a man', '(_)']),
    'query count': record(query_types=[]),
    'bad fps': record(fps=0.0),
    'bad width': record(width=None),
    'bad num_frames': record(num_frames=-1),
    'bad segment': record(segment=(0, 4.5)),
    'segment outside the video': record(segment=(1, 11)),
    'segment outside the video: frames 5 to 5': record(segment=(5, 5)),
}
BAD_TRUTH = {
    'tube count': record(tubes=[]),
    'event outside the segment': record(tubes=[tube(0, 3)]),
    'event outside the segment: that of query 0 is frames 8 to 10': record(tubes=[tube(8, 10)]),
    'event outside the segment: that of query 0 is frames 4 to 4': record(tubes=[tube(4, 4)]),
    'box count': record(tubes=[tube(boxes=[[1, 2, 3, 4]])]),
    'no box': record(tubes=[tube(boxes=[[NAN] * 4] * 3)]),
    'bad box: that of query 0 in frame 3': record(
        tubes=[tube(boxes=[[1, 2, 3, 4], [3, 2, 1, 4], [1, 2, 3, 4]])]
    ),
    'bad box': record(tubes=[tube(boxes=[[1, NAN, 3, 4]] * 3)]),
}


@pytest.mark.parametrize('kind', [*BAD, *BAD_TRUTH])
def test_bad_record_is_an_error_that_names_it(kind):
    bad = {**BAD, **BAD_TRUTH}[kind]
    with pytest.raises(ValueError, match=rf'val\.json: record 3: {kind}.*invalid=.skip.'):
        Records([record(), bad], test_mode=True)


@pytest.mark.parametrize('kind', BAD_TRUTH)
def test_training_does_not_see_what_is_wrong_with_the_truth(kind):
    (kept,) = Records([BAD_TRUTH[kind]])
    assert 'tubes' not in kept


def test_bad_records_are_skipped_and_counted_when_asked_for(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        dataset = Records([*BAD.values(), record()], invalid='skip')
    finally:
        logger.removeHandler(caplog.handler)
    assert len(dataset) == 1
    assert f'left out 2 of {len(BAD) + 1} records (segment outside the video)' in caplog.text


def test_frames_without_a_box_are_allowed():
    boxes = [[1, 2, 3, 4], [NAN] * 4, [1, 2, 3, 4]]
    (kept,) = Records([record(tubes=[tube(boxes=boxes)])], test_mode=True)
    np.testing.assert_array_equal(kept['tubes'][0]['bboxes'], np.float32(boxes))


def test_truth_follows_test_mode_and_can_be_chosen():
    for kwargs, truth in (
        (dict(), False),
        (dict(test_mode=True), True),
        (dict(with_truth=True), True),
        (dict(test_mode=True, with_truth=False), False),
    ):
        dataset = Records([record()], **kwargs)
        assert ('tubes' in dataset[0]) == truth == dataset.with_truth


def test_reader_that_leaks_the_truth_is_refused():
    class Leaky(Records):
        def load_data_list(self):
            return self.records

    for invalid in ('error', 'skip'):
        with pytest.raises(ValueError, match=r'Leaky\.load_data_list gave tubes'):
            Leaky([record()], invalid=invalid)
    with pytest.raises(ValueError, match='no truth.*with_truth=False'):
        Leaky([{k: v for k, v in record().items() if k != 'tubes'}], test_mode=True)


def test_many_sentences_are_split():
    dataset = Records([record(3), record(2)], max_queries=2, test_mode=True, name='val')
    assert [r['query_ids'] for r in dataset] == [[0, 1], [2], [0, 1]]
    assert [[t['span'] for t in r['tubes']] for r in dataset] == [
        [(2, 5), (3, 6)],
        [(4, 7)],
        [(2, 5), (3, 6)],
    ]
    assert {r['dataset_name'] for r in dataset} == {'val'}
    single = Records([record(3)], max_queries=1)
    assert [r['queries'] for r in single] == [['a man 0'], ['a man 1'], ['a man 2']]
    with pytest.raises(ValueError, match='max_queries must be 1 or more'):
        Records([record()], max_queries=0)
    with pytest.raises(ValueError, match='no use for group_by_image.*max_queries splits'):
        Records([record()], group_by_image=True)


def test_subsets_and_workers_give_the_same_records():
    records = [record(2, video_id=str(i)) for i in range(5)]
    dataset = Records(records, test_mode=True)
    assert [r['video_id'] for r in Records(records, indices=[3, 1])] == ['3', '1']
    plain = Records(records, serialize_data=False)
    assert [r['video_id'] for r in plain] == list('01234')
    loader = DataLoader(dataset, batch_size=None, num_workers=1, collate_fn=lambda r: r)
    assert [r['video_id'] for r in loader] == list('01234')


def test_boxes_are_cleaned_and_counted(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)

    class Cleaned(Records):
        def load_data_list(self):
            boxes = [[-5, 2, 30, 60], [10, 20, 5, 30], [120, 0, 130, 9], [1, 2, 3, 4], [NAN] * 4]
            cleaned = self.clean_boxes(boxes, 100, 50)
            yield record(tubes=[tube(2, 7, cleaned)])

    try:
        (kept,) = Cleaned([], test_mode=True)
    finally:
        logger.removeHandler(caplog.handler)
    expected = [[0, 2, 30, 50], [NAN] * 4, [NAN] * 4, [1, 2, 3, 4], [NAN] * 4]
    np.testing.assert_array_equal(kept['tubes'][0]['bboxes'], np.float32(expected))
    assert '1 boxes cut at the border of the frame, 2 boxes without area left out' in caplog.text


def test_videos_are_checked_when_asked_for(videos, tmp_path):
    good = str(videos.write('good.mp4', 10))
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    paths = [good, str(tmp_path / 'broken.mp4'), str(tmp_path / 'absent.mp4')]
    records = [record(video_path=p) for p in paths]
    assert len(Records(records)) == 3
    (kept,) = Records(records, check_videos=True, invalid='skip')
    assert kept['video_path'] == good
    with pytest.raises(ValueError, match=r'record 3: broken video: .*broken\.mp4 cannot be opened'):
        Records(records, check_videos=True)
    with pytest.raises(ValueError, match=r'record 3: missing video: .*absent\.mp4 does not exist'):
        Records(records[2:], check_videos=True)
    # Where the segment begins must decode, too.
    late = record(video_path=good, num_frames=50, segment=(30, 40))
    with pytest.raises(ValueError, match='broken video: .*no frame 30, only 10'):
        Records([late], check_videos=True)


def test_sentences_that_pass_can_be_parsed():
    texts = ['(a man)', '_', '????', '( ) ?', '...', '7', '(what holds a cup?)', 'a man (_)', '人']
    records = [record(queries=[text], video_id=text) for text in texts]
    kept = [r['queries'][0] for r in Records(records, invalid='skip')]
    assert kept == ['(a man)', '7', '(what holds a cup?)', 'a man (_)', '人']
    assert all(QueryParser()(text).entities for text in kept)


@pytest.fixture
def regions(tmp_path):
    """Steps that sample frames 1, 4 and 8, and tubes: of video 'broken' there are two of them."""
    with VideoRegionWriter(tmp_path / 'regions', dict(detector='none')) as writer:
        for video, frame in [*(('whole', f) for f in (1, 4, 8)), ('broken', 1), ('broken', 4)]:
            boxes, scores = np.float32([[0, 0, 9, 9]]), np.ones(1, np.float32)
            features = np.ones((1, 2), np.float32)
            found = Regions(boxes, scores, np.zeros(1, np.int64), features, features[0], (50, 100))
            writer.add_frame(video, frame, found)
    return [
        dict(type='SampleFrames', num_frames=3),
        dict(type='LoadTubes', region_file=str(tmp_path / 'regions')),
    ]


@pytest.mark.parametrize('test_mode', [False, True])
def test_videos_without_regions_are_bad_records(regions, caplog, test_mode):
    records = [record(2, video_id=name) for name in ('absent', 'whole', 'broken')]
    # As tools build it that read sentences or make the regions.
    assert len(Records(records, pipeline=[], test_mode=test_mode)) == 3
    for bad, frame in (('absent', 1), ('broken', 8)):
        wanted = [r for r in records if r['video_id'] in ('whole', bad)]
        message = (
            rf"json: record 3: no regions: .*has not frame {frame} of video '{bad}'.*"
            "extract_video_regions.py.*invalid='skip'"
        )
        with pytest.raises(ValueError, match=message):
            Records(wanted, pipeline=regions, test_mode=test_mode)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        dataset = Records(records, pipeline=regions, test_mode=test_mode, invalid='skip')
    finally:
        logger.removeHandler(caplog.handler)
    (kept,) = dataset
    assert kept['video_id'] == 'whole' and len(kept['tubes_found']['bboxes']) == 1
    assert caplog.text.count('left out 2 of 3 records (no regions)') == 1
