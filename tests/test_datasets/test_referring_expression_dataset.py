import os
import pickle

import numpy as np
import pytest
import torch

from mmvg.datasets import ReferringExpressionDataset

# --- REFER layout


def test_refer_one_record_per_sentence(refer):
    dataset = refer()
    assert [dataset[i]['queries'] for i in range(len(dataset))] == [['the man'], ['left man']]
    record = dataset.get_data_info(1)
    assert record['img_path'] == os.path.join(str(refer.folder), 'images', 'five.jpg')
    assert (record['img_id'], record['height'], record['width']) == (5, 480, 640)
    np.testing.assert_allclose(record['bboxes'], [[10.7, 20.6, 41.2, 61.5]])
    assert record['query_ids'] == [1]
    assert record['source'].endswith('refs(unc).p: ref 0, sentence 1')


def test_refer_keys_change_case_box_and_grouping(refer):
    assert refer(lower_case=False)[0]['queries'] == ['The Man']
    assert refer(truncate_boxes=True)[0]['bboxes'] == [[10, 20, 40, 60]]  # 30.5 and 40.9 cut, too
    both = refer(split=['train', 'val'])
    assert len(both) == 3 and both[2]['queries'] == ['naïve café']
    grouped = refer(group_by_image=True)
    assert len(grouped) == 1 and grouped[0]['query_ids'] == [0, 1]


def test_refer_unknown_split_lists_those_there(refer):
    with pytest.raises(ValueError, match="has no split 'testA'; it has train, val"):
        refer(split='testA')


@pytest.mark.parametrize(
    'lacking, names',
    [
        ('refs(unc).p', 'refs pickle of the REFER toolkit.*get it from'),
        ('instances.json', 'instances.json of the same archive.*get it from'),
    ],
)
def test_refer_missing_file_says_what_and_where(refer, lacking, names):
    refer()
    (refer.folder / lacking).unlink()
    with pytest.raises(FileNotFoundError, match=names):
        ReferringExpressionDataset(
            str(refer.folder / 'refs(unc).p'),
            split='train',
            instances_file=str(refer.folder / 'instances.json'),
        )


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(refs=dict(a=1)), 'not a refs pickle: it holds a dict of 1'),
        (dict(refs=[1, 2]), 'not a refs pickle'),
        (dict(refs=[dict(split='train', ref_id=7)]), "ref 7: 'ann_id' is missing"),
        (dict(refs=[dict(split='train', ref_id=7, ann_id=99, image_id=5)]), 'ref 7: 99 is missing'),
        (dict(refs=[dict(split='train', ref_id=7, ann_id=10, image_id=5)]), "ref 7: .*'sentences'"),
        (dict(instances=[]), 'not a COCO style instances.json'),
        (dict(instances=dict(images=[])), "'annotations'"),
        (
            dict(
                instances=dict(
                    images=[dict(id=5, file_name='a', height=9, width=9)],
                    annotations=[dict(id=10, bbox=[1, 2, 3])],
                )
            ),
            'not a box of four numbers',
        ),
    ],
)
def test_refer_wrong_content_names_file_and_record(refer, change, message):
    with pytest.raises(ValueError, match=message):
        refer(**change)


def test_refer_bad_boxes_are_errors_or_counted_skips(refer, monkeypatch):
    from mmengine.logging import MMLogger

    instances = dict(
        refer.instances,
        annotations=[dict(id=10, bbox=[5, 5, 0, 9]), dict(id=11, bbox=[700, 2, 3, 4])],
    )
    with pytest.raises(ValueError, match='ref 0, sentence 0: zero-size box'):
        refer(instances=instances)
    with pytest.raises(ValueError, match='ref 1, sentence 2: box outside the image'):
        refer(split='val', instances=instances)
    warnings = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', warnings.append)
    instances['annotations'][1]['bbox'] = [1, 2, 3, 4]
    assert len(refer(split=['train', 'val'], instances=instances, invalid='skip')) == 1
    assert len(warnings) == 1 and 'left out 2 of 3' in warnings[0]


def test_refer_empty_expression(refer):
    refs = [dict(refer.refs[1], sentences=[dict(sent_id=2, sent=' ')])]
    with pytest.raises(ValueError, match='sentence 2: empty query'):
        refer(split='val', refs=refs)
    refs = [dict(refer.refs[1], sentences=[dict(sent_id=2, sent=None)])]
    with pytest.raises(ValueError, match='the expression None is not text'):
        refer(split='val', refs=refs)


# --- TransVG layout


ROW = ('a.jpg', '7.pth', [303.58, 69.03, 293.29, 425.79], 'The Man', [('r1', ['man'])])


@pytest.mark.parametrize('zip_format', [False, True])
def test_transvg_rows(transvg, zip_format):
    record = transvg([ROW, ROW], zip_format).get_data_info(1)
    assert record['queries'] == ['the man'] and record['query_ids'] == [1]
    assert record['img_path'] == os.path.join(str(transvg.folder), 'images', 'a.jpg')
    np.testing.assert_allclose(record['bboxes'], [[303.58, 69.03, 596.87, 494.82]])
    assert record['source'].endswith('unc_val.pth: row 1')


def test_transvg_official_truncation(transvg):
    # The parts are cut before they are added: 303 + 293 = 596 and 69 + 425 = 494.
    assert transvg([ROW], truncate_boxes=True)[0]['bboxes'] == [[303, 69, 596, 494]]


def test_transvg_corner_boxes(transvg):
    row = ('a.jpg', np.array([1.5, 2, 30, 40], np.float32), 'man')
    assert transvg([row], box_format='xyxy')[0]['bboxes'] == [[1.5, 2, 30, 40]]
    assert transvg([row], box_format='xyxy', truncate_boxes=True)[0]['bboxes'] == [[1, 2, 30, 40]]
    with pytest.raises(ValueError, match="set box_format='xyxy'"):
        transvg([row])


def test_transvg_files_are_joined(transvg):
    transvg([ROW])
    paths = [str(transvg.folder / 'unc' / 'unc_val.pth')] * 2
    assert len(ReferringExpressionDataset(paths, layout='transvg')) == 2


@pytest.mark.parametrize(
    'rows, message',
    [
        (dict(a=1), 'holds a dict of 1 where a list of tuples'),
        ([('a', 'b')], 'row 0 is a tuple of 2'),
        ([3], 'row 0 is a int'),
        ([(1, 'b', [1, 2, 3, 4], 'c', [])], 'row 0: 1 is not the name of an image'),
        ([('a', 'b', [1, 2, 3], 'c', [])], 'row 0: .* is not a box'),
        ([('a', 'b', [1, 2, float('nan'), 4], 'c', [])], 'row 0: non-finite'),
        ([ROW, ('a', 'b', [1, 2, 3, 4], None, [])], 'row 1: malformed record: the expression None'),
        ([ROW, ('a', 'b', [1, 2, 3, 4], '', [])], 'row 1: empty query'),
        ([ROW, ('a', 'b', [1, 2, 0, 4], 'c', [])], 'row 1: zero-size box'),
    ],
)
def test_transvg_wrong_content_names_file_and_row(transvg, rows, message):
    with pytest.raises(ValueError, match=f'unc_val.pth.*{message}'):
        transvg(rows)


@pytest.mark.parametrize('truncate', [False, True])
def test_transvg_malformed_rows_can_be_skipped(transvg, truncate):
    broken = [('a', 'b', [float('nan'), 2, 3, 4], 'c', []), ('a', 'b', [1, 2, 3, 4], None, [])]
    dataset = transvg([broken[0], ROW, broken[1]], invalid='skip', truncate_boxes=truncate)
    assert len(dataset) == 1 and dataset.get_data_info(0)['query_ids'] == [1]


def test_transvg_missing_file_says_what_and_where(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'unc_val.pth does not exist.*TransVG index.*data.tar'
    ):
        ReferringExpressionDataset(str(tmp_path / 'unc_val.pth'), layout='transvg')


def test_refer_missing_files_are_named_at_once(refer, tmp_path):
    arguments = dict(
        data_root=str(tmp_path / 'none'),
        instances_file='instances.json',
        data_prefix=dict(img='train2014/'),
        split='train',
    )
    with pytest.raises(FileNotFoundError) as caught:
        ReferringExpressionDataset('refs(unc).p', **arguments)
    lines = str(caught.value).splitlines()
    assert [line.split(' does not exist')[0].split('none/')[1] for line in lines] == [
        'refs(unc).p',
        'instances.json',
        'train2014/',
    ]
    assert 'cocodataset.org' in lines[2]
    assert len(refer()) > 0  # annotations can be used without the pictures


@pytest.mark.parametrize(
    'bad',
    [
        dict(layout='coco'),
        dict(layout='refer'),
        dict(layout='transvg', split='val'),
        dict(layout='transvg', box_format='cxcywh'),
        dict(layout='refer', split='val', box_format='xyxy'),
    ],
)
def test_senseless_settings(bad):
    with pytest.raises(ValueError, match='layout|box_format'):
        ReferringExpressionDataset('x', **bad)


@pytest.mark.parametrize('layout, keys', [('refer', dict(split='val')), ('transvg', {})])
def test_malicious_file_does_not_run(tmp_path, layout, keys):
    class Payload:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/ran',)

    torch.save([Payload()], tmp_path / 'x', _use_new_zipfile_serialization=False)
    if layout == 'refer':
        (tmp_path / 'x').write_bytes(pickle.dumps([Payload()]))
    with pytest.raises(ValueError, match='was not read: it asks for .*system'):
        ReferringExpressionDataset(str(tmp_path / 'x'), layout=layout, **keys)
    assert not (tmp_path / 'ran').exists()
