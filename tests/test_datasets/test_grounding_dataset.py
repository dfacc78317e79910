import random
import tracemalloc

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from torch.utils.data import DataLoader

from mmvg.datasets import GroundingDataset


@TRANSFORMS.register_module()
class DrawForTest(BaseTransform):
    """Draws from every generator that transforms use."""

    def transform(self, results):
        return dict(draw=(random.random(), np.random.rand(), torch.rand(1).item()))


class Records(GroundingDataset):
    """A data set of given records."""

    def __init__(self, records, **kwargs):
        self.records = records
        super().__init__(**kwargs)

    def load_data_list(self):
        return self.records


def record(path='a.jpg', query='man', box=(1, 2, 30, 40), **kwargs):
    return dict(
        img_path=path,
        img_id=path,
        queries=[query],
        bboxes=[list(box)],
        width=100,
        height=50,
        source=f'{path}:1',
        **kwargs,
    )


BAD = [
    (dict(query=' '), 'empty query'),
    (dict(query=3), 'empty query'),
    (dict(box=(5, 5, 5, 9)), 'zero-size box'),
    (dict(box=(9, 5, 5, 9)), 'zero-size box'),
    (dict(box=(float('nan'), 0, 1, 1)), 'non-finite box'),
    (dict(box=(100, 0, 120, 9)), 'box outside the image'),
    (dict(box=(-9, 0, 0, 9)), 'box outside the image'),
]


@pytest.mark.parametrize('change, kind', BAD)
def test_bad_record_is_an_error_that_names_it(change, kind):
    with pytest.raises(ValueError, match=rf'b\.jpg:1: {kind}.*invalid=.skip.'):
        Records([record(), record('b.jpg', **change)])


def test_bad_records_are_skipped_and_counted_when_asked_for(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        dataset = Records(
            [record('b.jpg', **change) for change, _ in BAD] + [record()], invalid='skip'
        )
    finally:
        logger.removeHandler(caplog.handler)
    assert len(dataset) == 1
    counts = {kind: sum(k == kind for _, k in BAD) for _, kind in BAD}
    for kind, count in counts.items():
        assert f'left out {count} of {len(BAD) + 1} records ({kind})' in caplog.text


def test_box_that_reaches_beyond_the_image_is_kept():
    assert len(Records([record(box=(-5, -5, 200, 200))])) == 1


def test_all_records_bad_is_an_error():
    with pytest.raises(ValueError, match='no usable record'):
        Records([record(query='')], invalid='skip')


def test_grouping_keeps_order_and_respects_the_limit():
    records = [
        record('a.jpg', 'q0'),
        record('b.jpg', 'q1'),
        record('a.jpg', 'q2'),
        record('a.jpg', 'q3'),
    ]
    dataset = Records(records, group_by_image=True)
    assert [dataset.get_data_info(i)['queries'] for i in range(2)] == [['q0', 'q2', 'q3'], ['q1']]
    assert len(dataset.get_data_info(0)['bboxes']) == 3
    dataset = Records(records, group_by_image=True, max_queries=2)
    assert [dataset.get_data_info(i)['queries'] for i in range(3)] == [['q0', 'q2'], ['q3'], ['q1']]
    assert len(Records(records)) == 4
    with pytest.raises(ValueError, match='max_queries must be 1 or more'):
        Records(records, group_by_image=True, max_queries=-1)


def test_a_filter_of_mmdet_is_refused():
    with pytest.raises(ValueError, match="no use for filter_cfg.*invalid='skip'"):
        Records([record()], filter_cfg=dict(filter_empty_gt=True))


def test_grouping_marks_what_only_some_queries_have():
    dataset = Records(
        [record('a.jpg', 'q0', query_types=['t']), record('a.jpg', 'q1')], group_by_image=True
    )
    assert dataset.get_data_info(0)['query_types'] == ['t', None]


def draws(dataset, num_workers, order):
    loader = DataLoader(dataset, batch_size=None, sampler=order, num_workers=num_workers)
    return {i: sample['draw'] for i, sample in zip(order, loader)}


def test_augmentation_is_a_function_of_seed_epoch_and_index():
    dataset = Records([record(str(i)) for i in range(6)], pipeline=[dict(type='DrawForTest')])
    dataset.set_epoch(7, 3)
    first = draws(dataset, 0, [0, 1, 2, 3, 4, 5])
    assert first == draws(dataset, 2, [5, 3, 1, 0, 2, 4])
    dataset.set_epoch(7, 4)
    second = draws(dataset, 0, [0, 1, 2, 3, 4, 5])
    assert all(first[i] != second[i] for i in range(6))
    assert len(set(map(tuple, first.values()))) == 6
    dataset.set_epoch(7, 3)
    assert draws(dataset, 0, [0, 1, 2, 3, 4, 5]) == first


def test_a_persistent_worker_sees_the_new_epoch():
    dataset = Records([record(str(i)) for i in range(3)], pipeline=[dict(type='DrawForTest')])
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    dataset.set_epoch(0, 0)
    first = [s['draw'] for s in loader]
    dataset.set_epoch(0, 1)
    assert all(a != b['draw'] for a, b in zip(first, loader))


def test_the_callers_random_numbers_are_left_alone():
    dataset = Records([record()], pipeline=[dict(type='DrawForTest')])
    dataset.set_epoch(0, 0)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    dataset[0]
    assert torch.equal(torch.rand(1), expected)


def test_without_an_epoch_augmentation_is_random_as_elsewhere():
    dataset = Records([record()], pipeline=[dict(type='DrawForTest')])
    assert dataset[0]['draw'] != dataset[0]['draw']


def test_a_missing_size_is_read_from_the_picture_when_skipping(tmp_path):
    from PIL import Image

    path = tmp_path / 'a.png'
    Image.new('RGB', (100, 50)).save(path)
    records = [record(str(path)), record(str(path), box=(5, 60, 9, 70))]
    for r in records:
        del r['width'], r['height']
    assert len(Records(records, invalid='skip')) == 1
    assert len(Records(records)) == 2  # with 'error' the loader tells, for the sample concerned


def test_the_replacement_of_a_sample_is_the_next_one():
    dataset = Records([record(str(i)) for i in range(3)], pipeline=[dict(type='DrawForTest')])
    dataset[2]
    assert dataset._rand_another() == 0


def test_records_may_come_from_a_generator():
    records = [record('a.jpg', 'q0'), record('b.jpg', 'q1'), record('a.jpg', 'q2')]
    for keys in ({}, dict(group_by_image=True), dict(serialize_data=False), dict(indices=[2, 0])):
        expected, dataset = Records(records, **keys), Records(iter(records), **keys)
        assert len(expected) == len(dataset) == (2 if keys and 'serialize_data' not in keys else 3)
        for i in range(len(dataset)):
            assert dataset.get_data_info(i) == expected.get_data_info(i)
    with pytest.raises(ValueError, match='no usable record'):
        Records(iter([]))


@pytest.mark.parametrize('grouped', [False, True])
def test_records_of_a_generator_never_exist_all_at_once(grouped):
    count = 10000
    tracemalloc.start()
    try:
        dataset = Records(
            (record(f'{i % 3000}.jpg', f'query {i}') for i in range(count)), group_by_image=grouped
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(dataset) == (3000 if grouped else count)
    assert dataset.data_list == [] and isinstance(dataset.data_bytes, np.ndarray)
    assert peak < 450 * count  # as objects, a record takes 1.2 kB


def test_a_problem_found_while_reading_counts_as_a_bad_record(caplog):
    from mmengine.logging import MMLogger

    records = [dict(source='x.xml', problem='malformed XML: no size'), record()]
    with pytest.raises(ValueError, match=r'x\.xml: malformed XML: no size.*invalid=.skip.'):
        Records(records)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        assert len(Records(records, invalid='skip')) == 1
    finally:
        logger.removeHandler(caplog.handler)
    assert 'left out 1 of 2 records (malformed XML); first: x.xml' in caplog.text


@pytest.mark.parametrize(
    'answers, problem',
    [
        ([], 'box count'),
        ([[[1, 2, 3, 4]], [[1, 2, 3, 4]]], 'box count'),
        ([[]], 'no answer'),
        ([[[1, 2, 3, 4], [5, 5, 5, 9]]], 'zero-size box'),
        ([[[100, 0, 120, 9]]], 'box outside the image'),
    ],
)
def test_every_right_box_is_checked(answers, problem):
    with pytest.raises(ValueError, match=problem):
        Records([record(all_bboxes=answers)])
    assert len(Records([record(all_bboxes=[[[1, 2, 3, 4], [1, 2, 30, 40]]])])) == 1


def test_grouping_drops_what_belongs_to_one_sentence():
    def sentence(number):
        extra = dict(caption=f'caption {number}', sentence_id=number, query_spans=[(0, number)])
        return record('a.jpg', all_bboxes=[[[0, 0, number, 1]]], **extra)

    alone = Records([sentence(1)], group_by_image=True).get_data_info(0)
    assert (alone['caption'], alone['query_spans']) == ('caption 1', [(0, 1)])
    both = Records([sentence(1), sentence(2)], group_by_image=True).get_data_info(0)
    assert not {'caption', 'sentence_id', 'query_spans'} & set(both)
    assert both['all_bboxes'] == [[[0, 0, 1, 1]], [[0, 0, 2, 1]]]
