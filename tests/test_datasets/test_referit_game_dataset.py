import json
import os

import pytest
import torch

from mmvg.datasets import ReferItGameDataset

QUERIES = {'12_1': ['Sky'], '12_2': ['tree', 'the naïve tree'], '34_1': ['-bridge']}
BOXES = {'12_1': [0, 0, 479, 99], '12_2': [10, 100, 20, 200], '34_1': [5, 5, 9, 9]}
SIZES = {'12.jpg': [480, 360], '34.jpg': [360, 480]}


@pytest.fixture
def referit(tmp_path):
    """Write the original files; returns a function that reads them."""

    def read(queries=QUERIES, boxes=BOXES, sizes=SIZES, **kwargs):
        for name, content in (('query_val', queries), ('bbox', boxes), ('imsize', sizes)):
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            (tmp_path / f'referit_{name}.json').write_bytes(content)
        if 'ann_file' not in kwargs:
            kwargs['split'] = 'val'
        return ReferItGameDataset(data_root=str(tmp_path), data_prefix=dict(img='images'), **kwargs)

    read.folder = tmp_path
    return read


def listed(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def test_one_record_per_expression(referit):
    records = listed(referit())
    assert [r['queries'] for r in records] == [['sky'], ['tree'], ['the naïve tree'], ['-bridge']]
    record = records[2]
    assert record['bboxes'] == [[10, 100, 20, 200]] and record['query_ids'] == ['12_2_1']
    assert (record['img_id'], record['width'], record['height']) == ('12.jpg', 480, 360)
    assert record['img_path'] == os.path.join(str(referit.folder), 'images', '12.jpg')
    assert record['source'].endswith('referit_query_val.json: region 12_2, expression 1')
    assert referit(lower_case=False).get_data_info(0)['queries'] == ['Sky']
    assert len(referit(group_by_image=True)) == 2
    assert 'width' not in referit(imsize_file=None).get_data_info(0)


def test_stored_boxes_lack_the_last_pixel(referit):
    assert referit().get_data_info(0)['bboxes'] == [[0, 0, 479, 99]]
    assert referit(box_origin='exact').get_data_info(0)['bboxes'] == [[0, 0, 480, 100]]


def test_fractions_are_truncated_on_request(referit):
    boxes = {**BOXES, '12_1': [0.9, 0, 47.9, 99]}
    assert referit(boxes=boxes).get_data_info(0)['bboxes'] == [[0.9, 0, 47.9, 99]]
    cut = referit(boxes=boxes, truncate_boxes=True, box_origin='exact')
    assert cut.get_data_info(0)['bboxes'] == [[0, 0, 48, 100]]


def test_image_list_picks_the_split(referit):
    (referit.folder / 'list.txt').write_text('34\r\n\n77\n')
    assert [r['img_id'] for r in listed(referit(image_list='list.txt'))] == ['34.jpg']
    (referit.folder / 'list.txt').write_text('77\n')
    with pytest.raises(ValueError, match='query_val.json has no expression .*different splits'):
        referit(image_list='list.txt')


def test_game_log(referit, tmp_path):
    (tmp_path / 'RealGames.txt').write_text(
        '12_2.jpg~the tree~120~88\n34_1.jpg~a bridge~1~2\n\n12_2.jpg~Naïve tree~3~4\n',
        encoding='utf-8',
    )
    (tmp_path / 'list.txt').write_text('12\n')
    with pytest.raises(ValueError, match='holds all splits; set image_list'):
        referit(ann_file='RealGames.txt')
    records = listed(referit(ann_file='RealGames.txt', image_list='list.txt'))
    assert [r['queries'] for r in records] == [['the tree'], ['naïve tree']]
    assert [r['query_ids'] for r in records] == [['12_2_0'], ['12_2_1']]
    assert records[1]['source'].endswith('RealGames.txt:4')


@pytest.mark.parametrize(
    'content, problem',
    [
        (b'12_2.jpg~caf\xe9 tree~1~2\n', 'RealGames.txt:1: encoding'),
        (b'12_9.jpg~tree~1~2\n', 'RealGames.txt:1: no box: region 12_9'),
        (b'12_2.jpg~ ~1~2\n', 'RealGames.txt:1: empty query'),
    ],
)
def test_a_bad_line_of_the_game_log_is_an_error_or_a_skip(referit, content, problem):
    (referit.folder / 'RealGames.txt').write_bytes(content + b'12_2.jpg~tree~1~2\n')
    (referit.folder / 'list.txt').write_text('12\n')
    keys = dict(ann_file='RealGames.txt', image_list='list.txt')
    with pytest.raises(ValueError, match=problem):
        referit(**keys)
    assert len(referit(**keys, invalid='skip')) == 1
    (referit.folder / 'RealGames.txt').write_bytes(b'not a game log\n')
    with pytest.raises(ValueError, match='RealGames.txt:1 is not REGION.jpg~expression~x~y'):
        referit(**keys)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(queries=b'{"12_1": ["sky"'), 'referit_query_val.json is not valid JSON'),
        (dict(queries=b'{"12_1": ["sk\xff"]}'), 'referit_query_val.json is not valid JSON'),
        (dict(queries=[1]), 'query_val.json should be .*region.*but holds a list of 1'),
        (dict(queries={'12_1': 'sky'}), "but holds 'sky' for '12_1'"),
        (
            dict(queries={'12_1': [None]}),
            'region 12_1, expression 0: malformed record: the expression None',
        ),
        (dict(boxes=b''), 'referit_bbox.json is not valid JSON'),
        (dict(boxes={**BOXES, '12_1': [1, 2, 3]}), 'region 12_1, expression 0: .*not a box'),
        (dict(boxes={}), 'no box: region 12_1 is not in .*referit_bbox.json'),
        (dict(boxes={**BOXES, '12_1': [0, 5, 9, 5]}), 'zero-size box'),
        (dict(boxes={**BOXES, '12_1': [480, 5, 490, 9]}), 'box outside the image'),
        (dict(sizes={'12.jpg': 480}), "imsize.json should be .*but holds 480 for '12.jpg'"),
        (dict(sizes={'12.jpg': [480]}), r'no size: .*imsize.json has \[480\] for 12.jpg'),
        (dict(sizes={'34.jpg': [1, 2]}), 'no size: .* has None for 12.jpg'),
    ],
)
def test_wrong_content_names_file_and_record(referit, change, message):
    with pytest.raises(ValueError, match=message):
        referit(**change)


def test_missing_files_are_named_at_once(referit, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        ReferItGameDataset(
            split='val', data_root=str(tmp_path / 'none'), image_list='referit_val_imlist.txt'
        )
    lines = str(caught.value).splitlines()
    assert [line.split(' does not exist')[0].split('none')[1] for line in lines] == [
        '/referit_query_val.json',
        '/referit_bbox.json',
        '/referit_imsize.json',
        '/referit_val_imlist.txt',
        '',
    ]
    assert all('get it from' in line for line in lines)
    with pytest.raises(FileNotFoundError, match='lost.txt does not exist'):
        referit(image_list='lost.txt')


def test_index_file(tmp_path):
    row = ('12.jpg', '12_2.pth', [10, 100, 20, 200], 'The tree', [('r1', ['tree'])])
    torch.save([row], tmp_path / 'referit_val.pth', _use_new_zipfile_serialization=False)
    keys = dict(layout='transvg', split='val', data_root=str(tmp_path))
    record = ReferItGameDataset(**keys).get_data_info(0)
    assert record['bboxes'] == [[10, 100, 20, 200]] and record['queries'] == ['the tree']
    exact = ReferItGameDataset(**keys, box_origin='exact').get_data_info(0)
    assert exact['bboxes'] == [[10, 100, 21, 201]]
    torch.save([row[::2]], tmp_path / 'referit_val.pth', _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match='row 0 has 3 parts.*belongs to another data set'):
        ReferItGameDataset(**keys)
    (tmp_path / 'referit_val.pth').write_bytes(b'damaged')
    with pytest.raises(ValueError, match='is not a TransVG index file.*damaged'):
        ReferItGameDataset(**keys)
    with pytest.raises(FileNotFoundError, match='referit_test.pth does not exist.*data.tar'):
        ReferItGameDataset(**{**keys, 'split': 'test'})


@pytest.mark.parametrize(
    'bad',
    [
        dict(),
        dict(split='val', ann_file='referit_val.pth'),
        dict(split='val', layout='refer'),
        dict(split='val', box_origin='official'),
        dict(split='val', layout='transvg', image_list='list.txt'),
    ],
)
def test_senseless_settings(bad):
    with pytest.raises(ValueError, match='split|layout|box_origin|image_list'):
        ReferItGameDataset(**bad)
