import json

import numpy as np
import pytest
from mmdet.registry import DATASETS
from PIL import Image

from mmvg.datasets import GroundingJSONLDataset

LINE = dict(image='a.jpg', text='the cup', bbox=[1, 2, 3, 4])


@pytest.fixture
def read(tmp_path):
    """Read lines (objects, text or bytes) as a data set."""

    def build(*lines, **kwargs):
        path = tmp_path / 'list.jsonl'
        parts = [
            json.dumps(x, ensure_ascii=False) if isinstance(x, dict | list) else x for x in lines
        ]
        path.write_bytes(b'\n'.join(p if isinstance(p, bytes) else p.encode() for p in parts))
        return DATASETS.build(
            dict(
                type='GroundingJSONLDataset',
                data_root=str(tmp_path),
                ann_file='list.jsonl',
                data_prefix=dict(img='images'),
                **kwargs,
            )
        )

    return build


def test_three_forms_in_one_file(read, tmp_path):
    dataset = read(
        dict(
            image='a.jpg',
            height=48,
            width=64,
            queries=[
                dict(text='The red CUP', bbox=[1, 2, 30, 40], type='attribute', id=7),
                dict(text='cup on the left', bbox=[1.5, 2, 30, 40]),
            ],
        ),
        '',
        dict(image='b.jpg', text='naïve café', bbox=[0, 0, 9, 9], id='q1'),
        dict(
            filename='c.jpg',
            height=10,
            width=20,
            grounding=dict(
                caption='a cup on a table',
                regions=[
                    dict(phrase='a cup', bbox=[1, 1, 5, 5], tokens_positive=[[0, 5]]),
                    dict(
                        phrase=['a', 'table'], bbox=[[1, 1, 5, 5], [3, 0, 9, 4]], tokens_positive=[]
                    ),
                ],
            ),
        ),
    )
    records = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [r['queries'] for r in records] == [
        ['the red cup'],
        ['cup on the left'],
        ['naïve café'],
        ['a cup'],
        ['a table'],
    ]
    assert [r['bboxes'][0] for r in records] == [
        [1, 2, 30, 40],
        [1.5, 2, 30, 40],
        [0, 0, 9, 9],
        [1, 1, 5, 5],
        [1, 0, 9, 5],
    ]
    assert records[0]['query_types'] == ['attribute'] and records[0]['query_ids'] == [7]
    assert records[2]['query_ids'] == ['q1'] and 'query_types' not in records[2]
    assert (records[0]['height'], records[0]['width']) == (48, 64) and 'height' not in records[2]
    assert records[1]['img_path'] == str(tmp_path / 'images' / 'a.jpg')
    assert records[4]['source'].endswith('list.jsonl:4, query 1')


def test_keys(read):
    assert read(dict(LINE, text='The Cup'), lower_case=False)[0]['queries'] == ['The Cup']
    several = dict(
        filename='c.jpg',
        grounding=dict(regions=[dict(phrase='cups', bbox=[[1, 1, 5, 5], [3, 0, 9, 4]])]),
    )
    with pytest.raises(ValueError, match=r"list.jsonl:1: region 0 has 2 boxes.*multi_box='union'"):
        read(several, multi_box='error')
    with pytest.raises(ValueError, match='multi_box'):
        read(several, multi_box='first')


def test_grouping_by_image(read):
    dataset = read(LINE, dict(LINE, image='b.jpg'), dict(LINE, text='cup'), group_by_image=True)
    assert [dataset.get_data_info(i)['queries'] for i in range(2)] == [
        ['the cup', 'cup'],
        ['the cup'],
    ]


@pytest.mark.parametrize(
    'line, message',
    [
        ('{"image": "a.jpg", ', r'no valid JSON .* one complete object on each line'),
        ('[1, 2]', r'the line should be an object'),
        (dict(text='x', bbox=[1, 2, 3, 4]), "the line has no \"image\"; it has 'text', 'bbox'"),
        (dict(image='a.jpg', text='x'), 'the line has no "bbox"'),
        (dict(image='a.jpg', bbox=[1, 2, 3, 4]), 'the line has no "text"'),
        (dict(image=3, text='x', bbox=[1, 2, 3, 4]), '"image" should be a file name, but is 3'),
        (dict(LINE, bbox=[1, 2, 3]), r'should be four numbers \[x1, y1, x2, y2\], but has 3'),
        (dict(LINE, bbox='1 2 3 4'), 'should be four numbers'),
        (dict(LINE, bbox=[1, 2, 3, '4']), "should be four numbers .*'4'"),
        (dict(LINE, bbox=[1, 2, 3, True]), 'should be four numbers'),
        (dict(LINE, bbox=[1, 2, 3, None]), 'should be four numbers'),
        (dict(LINE, text=['x']), 'the query of the line should be text'),
        (dict(LINE, type=3), '"type" of the line should be text'),
        (dict(LINE, id=[1]), '"id" of the line should be a number or text'),
        (dict(LINE, height='48'), '"height" should be a number of pixels'),
        (dict(image='a.jpg', queries=[]), '"queries" is empty'),
        (dict(image='a.jpg', queries={}), '"queries" should be a list'),
        (
            dict(image='a.jpg', queries=[dict(text='x', bbox=[1, 2, 3, 4]), 'y']),
            'query 1 should be an object',
        ),
        (dict(image='a.jpg', queries=[dict(text='x')]), 'query 0 has no "bbox"'),
        (dict(filename='a.jpg', detection={}), 'without "grounding"'),
        (dict(filename='a.jpg', grounding=dict(caption='x')), '"grounding" has no "regions"'),
        (dict(filename='a.jpg', grounding=dict(regions=[])), '"regions" is empty'),
        (
            dict(filename='a.jpg', grounding=dict(regions=[dict(bbox=[1, 2, 3, 4])])),
            'region 0 has no "phrase"',
        ),
        (
            '{"image": "a.jpg", "text": "café", "bbox": [1, 2, 3, 4]}'.encode('latin1'),
            'is not UTF-8',
        ),
        (dict(LINE, bbox=[1, 2, 1, 4]), 'query 0: zero-size box'),
        ('{"image": "a.jpg", "text": "x", "bbox": [1, 2, NaN, 4]}', 'query 0: non-finite box'),
        (dict(LINE, height=48, width=64, bbox=[70, 2, 80, 4]), 'query 0: box outside the image'),
        (dict(LINE, text='  '), 'query 0: empty query'),
    ],
)
def test_malformed_line_names_file_and_line(read, line, message):
    with pytest.raises(ValueError, match=f'list.jsonl:2.*{message}'):
        read(LINE, line)


def test_byte_order_mark_and_utf16(read):
    assert len(read(b'\xef\xbb\xbf' + json.dumps(LINE).encode(), LINE)) == 2
    with pytest.raises(ValueError, match='list.jsonl:1: byte 1 .* UTF-8'):
        read(json.dumps(LINE).encode('utf-16'))


def test_bad_values_can_be_skipped_but_bad_syntax_cannot(read):
    assert len(read(LINE, dict(LINE, text=''), invalid='skip')) == 1
    with pytest.raises(ValueError, match='list.jsonl:2'):
        read(LINE, '{', invalid='skip')


def test_missing_and_empty_file(read, tmp_path):
    with pytest.raises(FileNotFoundError, match='none.jsonl does not exist.*one object per line'):
        GroundingJSONLDataset(str(tmp_path / 'none.jsonl'))
    with pytest.raises(ValueError, match='no usable record'):
        read('')


def test_image_errors_name_the_line(read, tmp_path):
    pipeline = [dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations')]
    with pytest.raises(
        FileNotFoundError, match='list.jsonl:1, query 0: image .*a.jpg does not exist'
    ):
        read(LINE, pipeline=pipeline)[0]
    (tmp_path / 'images').mkdir()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / 'images' / 'a.jpg')
    assert read(LINE, pipeline=pipeline)[0]['gt_bboxes'].tensor.tolist() == [[1, 2, 3, 4]]
    with pytest.raises(
        ValueError, match='list.jsonl:1, query 0, image .* box outside the image: .* is 64 x 48'
    ):
        read(dict(LINE, bbox=[64, 2, 80, 4]), pipeline=pipeline)[0]


def test_real_odvg_example(samples):
    dataset = GroundingJSONLDataset(str(samples / 'formats' / 'odvg_grounding_example.jsonl'))
    assert [dataset.get_data_info(i)['queries'][0] for i in range(2)] == [
        'a paper cover that reads we heart our customers',
        'a wire hanger',
    ]
    assert dataset.get_data_info(1)['bboxes'] == [[19, 19, 982, 671]]
