import os

import numpy as np
import pytest
import torch

from mmvg.datasets import Flickr30kEntitiesDataset

XML = """<annotation><filename>{name}.jpg</filename>
<size><width>500</width><height>400</height><depth>3</depth></size>{objects}</annotation>"""
SENTENCES = [
    '[/EN#1/people Two Men] see [/EN#2/animals/other a dog] in [/EN#3/scene the park] .',
    '[/EN#0/notvisual It] is [/EN#4/other a day] .',
    '[/EN#1/people Men] with [/EN#1/people each other] , [/EN#9/other lost]',
]


def boxed(chain, *box):
    corners = ''.join(f'<{k}>{v}</{k}>' for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
    return f'<object><name>{chain}</name><bndbox>{corners}</bndbox></object>'


OBJECTS = (
    boxed(1, 1, 10, 50, 200)
    + boxed(1, 101, 20, 150, 210)
    + boxed(2, 300, 300, 500, 400)
    + '<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>'
    + '<object><name>4</name><scene>0</scene><nobndbox>1</nobndbox></object>'
)


@pytest.fixture
def entities(tmp_path):
    """Write pictures 7 and 8 in the official layout; returns a function that reads them."""
    for folder in ('Annotations', 'Sentences'):
        (tmp_path / folder).mkdir()
    for name in ('7', '8'):
        xml = XML.format(name=name, objects=OBJECTS)
        (tmp_path / 'Annotations' / f'{name}.xml').write_text(xml)
        (tmp_path / 'Sentences' / f'{name}.txt').write_text('\n'.join(SENTENCES) + '\n')
    (tmp_path / 'val.txt').write_text('7\r\n8\n')

    def read(ann_file='val.txt', **kwargs):
        return Flickr30kEntitiesDataset(
            ann_file, data_root=str(tmp_path), data_prefix=dict(img='flickr30k-images/'), **kwargs
        )

    read.folder = tmp_path
    return read


@pytest.fixture
def logged(caplog):
    """Text of the log."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel('INFO')
    yield lambda: caplog.text
    logger.setLevel(level)
    logger.removeHandler(caplog.handler)


# --- official files


def test_one_sample_per_caption_with_all_its_boxed_phrases(entities):
    dataset = entities()
    assert len(dataset) == 4
    record = dataset.get_data_info(0)
    assert record['queries'] == ['two men', 'a dog']
    assert record['bboxes'] == [[1, 10, 150, 210], [300, 300, 500, 400]]
    assert record['query_ids'] == ['1', '2'] and record['query_types'] == ['people', 'animals']
    assert record['caption'] == 'Two Men see a dog in the park .' and record['sentence_id'] == 0
    assert record['query_spans'] == [(0, 2), (3, 5)]
    assert (record['height'], record['width'], record['img_id']) == (400, 500, '7.jpg')
    assert record['img_path'] == os.path.join(str(entities.folder), 'flickr30k-images/', '7.jpg')
    assert record['source'].endswith(os.path.join('Sentences', '7.txt:1'))
    assert 'all_bboxes' not in record
    # Both mentions of a chain are queries; the caption between them has no boxed phrase.
    record = dataset.get_data_info(1)
    assert record['queries'] == ['men', 'each other'] and record['sentence_id'] == 2
    assert entities(lower_case=False).get_data_info(0)['queries'] == ['Two Men', 'a dog']


def test_what_has_no_box_is_counted_in_the_log(entities, logged):
    entities()
    for count, what in (
        (2, 'captions without a phrase that has a box'),
        (2, r'phrases (no box)'),
        (2, r'phrases (not annotated)'),
        (2, r'phrases (not visible)'),
        (2, r'phrases (scene)'),
    ):
        assert f'{count} {what}' in logged()


def test_one_phrase_per_sample(entities):
    dataset = entities(one_phrase=True)
    records = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [r['queries'] for r in records[:4]] == [['two men'], ['a dog'], ['men'], ['each other']]
    assert len(records) == 8 and records[1]['query_spans'] == [(3, 5)]
    assert records[1]['source'].endswith('7.txt:1, phrase 1')
    grouped = entities(one_phrase=True, group_by_image=True)
    assert [len(grouped.get_data_info(i)['queries']) for i in range(2)] == [4, 4]


@pytest.mark.parametrize(
    'box_origin, first, union',
    [
        ('stored', [1, 10, 50, 200], [1, 10, 150, 210]),
        ('official', [0, 9, 49, 199], [0, 9, 149, 209]),  # a pixel too small
        ('exact', [0, 9, 50, 200], [0, 9, 150, 210]),
    ],
)
def test_box_origin_and_any_box(entities, box_origin, first, union):
    record = entities(box_origin=box_origin, multi_box='any').get_data_info(0)
    assert record['bboxes'][0] == union
    assert record['all_bboxes'][0][0] == first
    assert [len(boxes) for boxes in record['all_bboxes']] == [2, 1]


def test_official_truncation_of_fractions(entities):
    path = entities.folder / 'Annotations' / '7.xml'
    path.write_text(path.read_text().replace('>50<', '>50.9<').replace('>150<', '>150.7<'))
    assert entities().get_data_info(0)['bboxes'][0] == [1, 10, 150.7, 210]
    cut = entities(truncate_boxes=True, multi_box='any').get_data_info(0)
    assert cut['bboxes'][0] == [1, 10, 150, 210] and cut['all_bboxes'][0][0] == [1, 10, 50, 200]


def test_any_box_truth_and_caption_reach_the_sample(entities):
    images = entities.folder / 'flickr30k-images'
    images.mkdir()
    from PIL import Image

    Image.new('RGB', (500, 400)).save(images / '7.jpg')
    pipeline = [
        dict(type='LoadGroundingImage'),
        dict(type='LoadQueryAnnotations'),
        dict(type='ResizeSide', scales=100),
        dict(type='FlipWithText', prob=1.0),
        dict(type='PackGroundingInputs'),
    ]
    dataset = entities(multi_box='any', pipeline=pipeline, test_mode=True)
    sample = dataset[0]['data_samples']
    assert sample.all_bboxes == dataset.get_data_info(0)['all_bboxes']  # px of the original image
    assert sample.gt_instances.bboxes.tolist() == [
        [70, 2, pytest.approx(99.8), 42],
        [0, 60, 40, 80],
    ]
    assert (sample.caption, sample.sentence_id) == ('Two Men see a dog in the park .', 0)
    assert sample.query_spans == [(0, 2), (3, 5)]
    with pytest.raises(FileNotFoundError, match=r'8\.txt:1: image .*8\.jpg does not exist'):
        dataset[2]


@pytest.mark.parametrize(
    'folder, name, content, kind',
    [
        ('Annotations', '7.xml', b'<annotation>', 'malformed XML: .*7.xml is not an annotation'),
        ('Annotations', '7.xml', None, 'missing file: .*7.xml does not exist'),
        ('Sentences', '7.txt', None, 'missing file: .*7.txt does not exist'),
        ('Sentences', '7.txt', b'[/EN#1/people A m\xe9n] .', 'encoding: byte 18 .* not UTF-8'),
        ('Sentences', '7.txt', b'', 'no caption: the file is empty'),
        ('Sentences', '7.txt', b'[/EN#1/people A man .', 'malformed sentence: '),
        ('Sentences', '7.txt', b'[/EN#1/people  ] .', 'empty query'),
        ('Annotations', '7.xml', XML.format(name=7, objects=boxed(1, 9, 9, 5, 9)), 'zero-size box'),
        ('Annotations', '7.xml', XML.format(name=7, objects=boxed(1, 501, 9, 505, 19)), 'box outs'),
    ],
)
def test_a_bad_picture_or_caption_is_an_error_or_a_counted_skip(
    entities, logged, folder, name, content, kind
):
    path = entities.folder / folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=kind):
        entities()
    dataset = entities(invalid='skip')
    assert {dataset.get_data_info(i)['img_id'] for i in range(len(dataset))} == {'8.jpg'}
    assert f'records ({kind.split(":")[0]}' in logged()


def test_utf8_captions_with_a_byte_order_mark_and_odd_line_ends(entities):
    text = '\ufeff[/EN#1/people Señora\xa0Núñez] sees\r\n\r\n[/EN#2/other a\u2028dog\x85] .'
    (entities.folder / 'Sentences' / '7.txt').write_bytes(text.encode())
    dataset = entities()
    records = [dataset.get_data_info(i) for i in range(2)]
    assert [r['queries'] for r in records] == [['señora núñez'], ['a dog']]
    assert [r['sentence_id'] for r in records] == [0, 2]


@pytest.mark.parametrize(
    'lines, message',
    [
        ('7\n7\n', r"val.txt:2: '7' is listed twice"),
        ('7\t0\n', r'val.txt:1: .* is not the number of a picture'),
        ('../8\n', 'is not the number'),
        ('\n', 'no usable record'),
        ('99\n', r'99.xml does not exist'),
    ],
)
def test_wrong_split_list(entities, lines, message):
    (entities.folder / 'val.txt').write_text(lines)
    with pytest.raises(ValueError, match=message):
        entities()


def test_missing_files_are_named_at_once(entities, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        Flickr30kEntitiesDataset('val.txt', data_root=str(tmp_path / 'none'))
    assert [line.split(' does not exist')[0] for line in str(caught.value).splitlines()] == [
        str(tmp_path / 'none' / name) for name in ('val.txt', 'Annotations', 'Sentences', '')
    ]
    (entities.folder / 'Sentences').rename(entities.folder / 'elsewhere')
    with pytest.raises(FileNotFoundError, match='Sentences does not exist.*annotations.zip'):
        entities()
    assert len(entities(sentence_dir='elsewhere')) == 4


@pytest.mark.parametrize(
    'bad',
    [
        dict(layout='refer'),
        dict(multi_box='first'),
        dict(box_origin='centre'),
        dict(layout='transvg', multi_box='any'),
        dict(layout='transvg', box_origin='official'),
        dict(ann_file=['val.txt', 'test.txt']),
    ],
)
def test_senseless_settings(bad):
    with pytest.raises(ValueError, match='layout|multi_box|box_origin'):
        Flickr30kEntitiesDataset(**{'ann_file': 'val.txt', **bad})


# --- TransVG layout


@pytest.fixture
def index(tmp_path):
    """Read rows through an index file."""

    def read(rows, **kwargs):
        torch.save(rows, tmp_path / 'flickr_val.pth', _use_new_zipfile_serialization=False)
        return Flickr30kEntitiesDataset(
            'flickr_val.pth',
            layout='transvg',
            data_root=str(tmp_path),
            data_prefix=dict(img='img'),
            **kwargs,
        )

    return read


def test_index_rows_with_the_quirks_of_their_boxes(index):
    rows = [('7.jpg', np.array([1.0, 10.5, 150.9, 210], np.float32), 'Two Men')] * 2
    record = index(rows).get_data_info(1)
    np.testing.assert_allclose(record['bboxes'], [[1, 10.5, 150.9, 210]], atol=1e-5)
    assert record['queries'] == ['two men'] and record['img_id'] == '7.jpg'
    assert index(rows, truncate_boxes=True).get_data_info(0)['bboxes'] == [[1, 10, 150, 210]]
    exact = index(rows, truncate_boxes=True, box_origin='exact').get_data_info(0)
    assert exact['bboxes'] == [[0, 9, 150, 210]]


def test_index_of_another_data_set_is_refused(index):
    with pytest.raises(ValueError, match='row 0 has 5 parts.*belongs to another data set'):
        index([('a.jpg', '7.pth', [1, 2, 3, 4], 'man', [])])
