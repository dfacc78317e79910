"""Every conversion and back, on small files and on the real samples."""

import importlib
import json
import os
import pickle
import signal
import sys
from collections import Counter

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from PIL import Image

from mmvg.apis import load_config
from mmvg.datasets import GroundingJSONLDataset
from mmvg.datasets.safe_pickle import load_torch_index

RECORD_KEYS = ('img_id', 'height', 'width', 'queries', 'bboxes', 'query_ids', 'query_types')
LINES = [
    {
        'image': 'a/1.jpg',
        'height': 480,
        'width': 640,
        'queries': [
            {'text': 'The Red cup', 'bbox': [10, 20.5, 50, 80], 'type': 'attribute', 'id': 7},
            {'text': 'tasse à café', 'bbox': [1.1, 2, 3.1, 80.25]},
        ],
        'note': 'kept',
    },
    {
        'image': 'a/1.jpg',
        'height': 480,
        'width': 640,
        'caption': 'A man and a man hold cups .',
        'queries': [
            {'text': 'A man', 'bbox': [0, 0, 9, 9], 'tokens_positive': [[0, 5]]},
            {
                'text': 'a man',
                'bbox': [0, 0, 30, 40],
                'tokens_positive': [[10, 15]],
                'boxes': [[0, 0, 10, 10], [20, 20, 30, 40]],
                'type': 'people',
                'id': '283585',
            },
        ],
    },
]


@pytest.fixture(scope='module')
def converters(repository):
    """The modules of tools/dataset_converters by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / 'tools' / 'dataset_converters'))
        yield importlib.import_module


@pytest.fixture
def convert(converters, monkeypatch, capsys):
    """Run convert.py with arguments; returns what it says, and raises SystemExit as it does."""

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['convert.py', *map(str, args)])
        capsys.readouterr()
        converters('convert').main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def refuse(convert, capsys):
    """Run convert.py, expect exit status 2; returns the message."""

    def run(*args):
        with pytest.raises(SystemExit) as caught:
            convert(*args)
        assert caught.value.code == 2
        return capsys.readouterr().err

    return run


def write_lines(path, lines):
    path.write_text(
        ''.join(json.dumps(x, ensure_ascii=False) + '\n' for x in lines), encoding='utf-8'
    )
    return path


def read_lines(path):
    return [json.loads(x) for x in path.read_text(encoding='utf-8').splitlines()]


def records(path):
    """What training sees of a file."""
    dataset = GroundingJSONLDataset(str(path), lower_case=False, serialize_data=False)
    return [{k: r[k] for k in RECORD_KEYS if k in r} for r in dataset.data_list]


def same_rows(left, right):
    def plain(rows):
        return [json.loads(json.dumps(row, default=lambda a: a.tolist())) for row in rows]

    return plain(left) == plain(right)


def test_odvg_round_trip(tmp_path, convert):
    source = write_lines(tmp_path / 'a.jsonl', LINES)
    assert '2 picture records, 4 queries' in convert(source, tmp_path / 'vg.json', '--to', 'odvg')
    odvg = read_lines(tmp_path / 'vg.json')
    assert [x['grounding']['caption'] for x in odvg] == [
        'The Red cup',
        'tasse à café',
        'A man and a man hold cups .',
    ]
    assert odvg[0]['grounding']['regions'] == [
        {
            'bbox': [10, 20.5, 50, 80],
            'phrase': 'The Red cup',
            'tokens_positive': [[0, 11]],
            'type': 'attribute',
            'id': 7,
        }
    ]
    assert odvg[2]['grounding']['regions'][1]['bbox'] == [[0, 0, 10, 10], [20, 20, 30, 40]]
    convert(tmp_path / 'vg.json', tmp_path / 'b.jsonl')
    assert read_lines(tmp_path / 'b.jsonl') == LINES
    convert(tmp_path / 'b.jsonl', tmp_path / 'vg2.json', '--to', 'odvg')
    assert (tmp_path / 'vg2.json').read_bytes() == (tmp_path / 'vg.json').read_bytes()
    # mmdet's reader takes what we write.
    mmdet_dataset = DATASETS.build(
        dict(
            type='ODVGDataset',
            ann_file=str(tmp_path / 'vg.json'),
            data_prefix=dict(img=''),
            return_classes=True,
            serialize_data=False,
        )
    )
    assert [len(x['instances']) for x in mmdet_dataset.data_list] == [1, 1, 3]
    assert mmdet_dataset.data_list[2]['phrases'][1]['tokens_positive'] == [[10, 15]]


def test_odvg_of_others_comes_back_unchanged(samples, tmp_path, convert):
    odd = {
        'filename': 'b.jpg',
        'height': 10,
        'width': 20,
        'grounding': {
            'caption': 'a left big dog',
            'regions': [
                {'bbox': [[1, 2, 3, 4]], 'phrase': 'dog', 'tokens_positive': [[11, 14]]},
                {
                    'bbox': [1, 2, 3, 4],
                    'phrase': ['a', 'big dog'],
                    'tokens_positive': [[0, 1], [7, 14]],
                    'score': 0.5,
                },
            ],
        },
    }
    (example,) = read_lines(samples / 'formats' / 'odvg_grounding_example.jsonl')
    source = write_lines(tmp_path / 'x.json', [odd, example])
    convert(source, tmp_path / 'x.jsonl')
    assert records(tmp_path / 'x.jsonl') == records(source)
    convert(tmp_path / 'x.jsonl', tmp_path / 'y.json', '--to', 'odvg')
    first, second = read_lines(tmp_path / 'y.json')
    assert first == odd
    for region in second['grounding']['regions']:  # what mmdet needs and the example lacks
        ((start, end),) = region.pop('tokens_positive')
        assert second['grounding']['caption'][start:end] == region['phrase']
    assert second == example
    convert(source, tmp_path / 'whole.jsonl', '--query', 'caption')
    assert read_lines(tmp_path / 'whole.jsonl')[0]['queries'][1]['text'] == 'a left big dog'
    convert(tmp_path / 'whole.jsonl', tmp_path / 'z.json', '--to', 'odvg')
    assert read_lines(tmp_path / 'z.json')[0] == odd


def test_mdetr_keeps_every_record(tmp_path, convert):
    source = write_lines(tmp_path / 'a.jsonl', LINES)
    convert(source, tmp_path / 'm.json', '--to', 'mdetr', '--dataset-name', 'refcoco')
    content = json.loads((tmp_path / 'm.json').read_text())
    assert [x['id'] for x in content['images']] == [0, 1, 2]
    assert [a['image_id'] for a in content['annotations']] == [0, 1, 2, 2, 2]
    # 3.1 - 1.1 in floating point is not the 2 that was added.
    assert content['annotations'][1]['bbox'] == [1.1, 2, 2.0, 78.25]
    assert content['images'][2]['tokens_positive_eval'] == [[[0, 5]], [[10, 15]]]
    for kind, lengths in (('MDETRStyleRefCocoDataset', [1, 1, 3]), ('Flickr30kDataset', [1, 1, 3])):
        data = DATASETS.build(
            dict(
                type=kind,
                ann_file=str(tmp_path / 'm.json'),
                data_prefix=dict(img=''),
                serialize_data=False,
                test_mode=True,
            )
        ).data_list
        assert [len(x['instances']) for x in data] == lengths
    assert data[2]['phrase_ids'] == [0, 1, 1] and data[2]['phrases'] == ['A man', 'a man']
    convert(tmp_path / 'm.json', tmp_path / 'b.jsonl', '--query', 'phrase')
    assert records(tmp_path / 'b.jsonl') == records(source)
    convert(tmp_path / 'b.jsonl', tmp_path / 'm2.json', '--to', 'mdetr')
    assert json.loads((tmp_path / 'm2.json').read_text()) == content


def test_real_mdetr_records(samples, tmp_path, convert):
    content = json.loads((samples / 'formats' / 'mdetr_image_records.json').read_text())
    mixed, flickr = content['images']
    content['annotations'] = [
        dict(
            id=9 - i,
            image_id=image['id'],
            area=7.5,
            iscrowd=0,
            category_id=1,
            bbox=[0.1 * i, 2, 3.3, 4],
            tokens_positive=spans,
            original_id=100 + i,
        )  # fmt: skip
        for i, (image, spans) in enumerate(
            [(mixed, [[0, 8]]), (flickr, [[0, 10]]), (flickr, [[14, 33]]), (flickr, [[0, 10]])]
        )
    ]
    content['images'].append({**flickr, 'id': 28})
    (tmp_path / 'm.json').write_text(json.dumps(content))
    out = convert(tmp_path / 'm.json', tmp_path / 'm.jsonl')
    assert '1 image records without a box, left out' in out
    lines = read_lines(tmp_path / 'm.jsonl')
    texts = [[q['text'] for q in x['queries']] for x in lines]
    assert texts == [['two cars'], ['2 wet boys', 'blue swimming suits']]
    assert len(lines[1]['queries'][0]['boxes']) == 2 and lines[1]['height'] == 500
    convert(tmp_path / 'm.jsonl', tmp_path / 'n.json', '--to', 'mdetr')
    back = json.loads((tmp_path / 'n.json').read_text())
    assert {a['id']: a for a in back['annotations']} == {a['id']: a for a in content['annotations']}
    sizes = dict(height=500, width=371)  # the sample has them as text
    assert back['images'] == [mixed, {**flickr, **sizes}]


def test_referring_expressions_of_mdetr_ask_with_the_whole_caption(tmp_path, convert):
    image = dict(id=1, file_name='a.jpg', height=9, width=9, caption='man on left')
    annotation = dict(id=5, image_id=1, bbox=[1, 2, 3, 4], tokens_positive=[[0, 3]], original_id=6)
    for name, text in (('refcoco', 'man on left'), ('flickr', 'man')):
        content = dict(images=[{**image, 'dataset_name': name}], annotations=[annotation])
        (tmp_path / 'm.json').write_text(json.dumps(content))
        convert(tmp_path / 'm.json', tmp_path / 'm.jsonl', '--overwrite')
        (line,) = read_lines(tmp_path / 'm.jsonl')
        assert line['queries'][0]['text'] == text and line['queries'][0]['id'] == 6
        convert(tmp_path / 'm.jsonl', tmp_path / 'n.json', '--to', 'mdetr', '--overwrite')
        back = json.loads((tmp_path / 'n.json').read_text())
        assert (back['images'], back['annotations']) == (content['images'], [annotation])


@pytest.mark.parametrize(
    'path, rows',
    [
        ('refcoco/transvg_splits/original_pth/unc_testA.pth', 5),
        ('referitgame/transvg_splits/original_pth/referit_val.pth', 5),
        ('flickr30k_entities/transvg_splits/original_pth/flickr_test.pth', 3),
    ],
)
def test_real_index_files_round_trip(samples, tmp_path, convert, path, rows):
    original = load_torch_index(str(samples / path))
    out = convert(samples / path, tmp_path / 'a.jsonl')
    assert f'{len(original)} queries' in out
    by_class = DATASETS.build(
        dict(
            type='ReferringExpressionDataset',
            layout='transvg',
            ann_file=str(samples / path),
            box_format='xywh' if 'unc' in path else 'xyxy',
            lower_case=False,
            serialize_data=False,
        )
    ).data_list
    keys = ('img_id', 'queries', 'bboxes')
    assert [[r[k] for k in keys] for r in records(tmp_path / 'a.jsonl')] == [
        [r[k] for k in keys] for r in by_class
    ]
    convert(tmp_path / 'a.jsonl', tmp_path / 'a.pth', '--rows', rows)
    assert same_rows(load_torch_index(str(tmp_path / 'a.pth')), original)


def test_real_json_splits_round_trip(samples, tmp_path, convert):
    """All boxes of the COCO family that are known here survive x2 = x + w, w = x2 - x."""
    for path in sorted((samples / 'refcoco' / 'transvg_splits').glob('*val.json')):
        rows = [
            (image, f'{mask}.pth', box, text, [])
            for image, mask, box, text in json.loads(path.read_text())['rows']
        ]
        torch.save(rows, tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
        convert(tmp_path / 'a.pth', tmp_path / 'a.jsonl', '--overwrite')
        convert(tmp_path / 'a.jsonl', tmp_path / 'b.pth', '--overwrite')
        assert same_rows(load_torch_index(str(tmp_path / 'b.pth')), rows)


def test_config_of_real_refs(samples, tmp_path, convert, refuse, repository):
    """All splits of a config; text and boxes as in the files; the chain through all formats."""
    root = samples / 'refcoco' / 'official_layout_rebuilt'
    config = tmp_path / 'data.py'
    refer = (
        "dict(type='ReferringExpressionDataset', ann_file='refcoco/refs(unc).p', "
        "instances_file='refcoco/instances.json', data_prefix=dict(img='train2014/'), "
        f"data_root='{root}', truncate_boxes=True, split='%s')"
    )
    config.write_text(
        f'train_dataloader = dict(dataset={refer % "train"})\n'
        f'val_dataloader = dict(dataset={refer % "val"})\n'
        "test_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=["
        f'{refer % "val"}, {refer % "testA"}, {refer % "testB"}]))\n'
    )
    assert 'write {split} in the name' in refuse(config, tmp_path / 'one.jsonl')
    assert 'has no split test, but train, val, testA' in refuse(
        config, 'x.jsonl', '--split', 'test'
    )
    out = convert(config, tmp_path / 'r_{split}.jsonl')
    assert [line.split(':')[0][-11:] for line in out.splitlines()] == [
        f'r_{split}.jsonl'.rjust(11, '/')[-11:] for split in ('train', 'val', 'testA', 'testB')
    ]
    assert convert(config, tmp_path / 'r_{split}.jsonl', '--resume').count('left as it is') == 4

    with open(root / 'refcoco' / 'refs(unc).p', 'rb') as f:
        refs = [ref for ref in pickle.load(f) if ref['split'] == 'testA']
    boxes = json.loads((root / 'refcoco' / 'instances.json').read_text())['annotations']
    boxes = {a['id']: a['bbox'] for a in boxes}
    expected = Counter()
    for ref in refs:
        x, y, w, h = boxes[ref['ann_id']]
        for s in ref['sentences']:
            expected[ref['image_id'], s['sent'], s['sent_id'], x, y, x + w, y + h] += 1
    found = Counter(
        (line['image_id'], query['text'], query['id'], *query['bbox'])
        for line in read_lines(tmp_path / 'r_testA.jsonl')
        for query in line['queries']
    )
    assert found == expected

    first = tmp_path / 'r_testA.jsonl'
    convert(first, tmp_path / 'm.json', '--to', 'mdetr', '--dataset-name', 'refcoco')
    images = json.loads((tmp_path / 'm.json').read_text())['images']
    assert {image['original_id'] for image in images} == {ref['image_id'] for ref in refs}
    convert(tmp_path / 'm.json', tmp_path / 'vg.json', '--to', 'odvg', '--from', 'mdetr')
    convert(tmp_path / 'vg.json', tmp_path / 'last.jsonl')
    assert records(tmp_path / 'last.jsonl') == records(first)

    options = ['layout=refer', f'data_root={root}/refcoco', 'ann_file=refs(unc).p', 'split=testA']
    convert(
        *('ReferringExpressionDataset', tmp_path / 's.jsonl', '--as-configured', '--cfg-options'),
        *options,
        'truncate_boxes=True',
    )
    whole = [v for r in records(tmp_path / 's.jsonl') for v in r['bboxes'][0]]
    assert all(v == int(v) for v in whole)


def test_real_referit_files_become_the_index_file(samples, tmp_path, convert):
    """The two official forms of ReferIt's val split hold the same expressions and boxes."""
    folder = samples / 'referitgame'
    convert(
        *('ReferItGameDataset', tmp_path / 'a.jsonl', '--cfg-options', 'split=val'),
        *('bbox_file=referit_bbox_subset.json', 'imsize_file=referit_imsize_subset.json'),
        f'data_root={folder / "text_objseg"}',
    )
    convert(tmp_path / 'a.jsonl', tmp_path / 'a.pth')
    index = load_torch_index(str(folder / 'transvg_splits' / 'original_pth' / 'referit_val.pth'))

    def expressions(rows):
        return Counter((image, *box, text) for image, _, box, text, _ in rows)

    made = expressions(load_torch_index(str(tmp_path / 'a.pth')))
    assert made.total() == 5842 and made == expressions(index)
    convert(tmp_path / 'a.jsonl', tmp_path / 'vg.json', '--to', 'odvg')  # it has the sizes
    convert(tmp_path / 'vg.json', tmp_path / 'b.jsonl')
    assert records(tmp_path / 'b.jsonl') == records(tmp_path / 'a.jsonl')


def test_real_captions_of_flickr30k(samples, tmp_path, convert):
    """Captions with their phrases, all boxes of a phrase, and mmdet's Flickr30k reader."""
    folder = samples / 'flickr30k_entities' / 'reconstructed'
    (tmp_path / 'val.txt').write_text('1016887272\n3359636318\n')
    convert(
        *('Flickr30kEntitiesDataset', tmp_path / 'a.jsonl', '--cfg-options'),
        *(f'data_root={folder}', f'ann_file={tmp_path / "val.txt"}'),
    )
    lines = read_lines(tmp_path / 'a.jsonl')
    first = lines[0]
    assert first['image'] == '1016887272.jpg' and (first['height'], first['width']) == (500, 333)
    assert first['caption'].startswith('Several climbers in a row are climbing the rock while')
    assert len({(line['image'], line['sentence_id']) for line in lines}) == len(lines) == 7
    for line in lines:
        for query in line['queries']:
            ((start, end),) = query['tokens_positive']
            assert line['caption'][start:end] == query['text']
    climbers = first['queries'][0]
    assert (climbers['text'], climbers['type'], climbers['id']) == (
        'Several climbers',
        'people',
        '547',
    )
    assert len(climbers['boxes']) > 5 and climbers['bbox'] == [162, 102, 256, 454]

    convert(tmp_path / 'a.jsonl', tmp_path / 'm.json', '--to', 'mdetr', '--dataset-name', 'flickr')
    convert(tmp_path / 'a.jsonl', tmp_path / 'vg.json', '--to', 'odvg')
    for name in ('m.json', 'vg.json'):
        convert(tmp_path / name, tmp_path / f'{name}l', '--to', 'jsonl')
        assert records(tmp_path / f'{name}l') == records(tmp_path / 'a.jsonl')
    assert read_lines(tmp_path / 'vg.jsonl') == lines
    data = DATASETS.build(
        dict(
            type='Flickr30kDataset',
            ann_file=str(tmp_path / 'm.json'),
            data_prefix=dict(img=''),
            serialize_data=False,
            test_mode=True,
        )
    ).data_list
    assert [x['phrases'] for x in data] == [[q['text'] for q in x['queries']] for x in lines]


def test_sentences_become_captions_with_spans(converters):
    """Records as of Flickr30kEntitiesDataset: one caption with its phrases."""
    entry = converters('dataset_entries')._entry(
        dict(
            img_path='/data/images/12.jpg',
            img_id='12',
            height=5,
            width=6,
            caption='A man on  the red bike .',
            sentence_id=3,
            queries=['A man', 'the red bike'],
            query_spans=[(0, 2), (3, 6)],
            query_types=['people', None],
            query_ids=['7', '8'],
            bboxes=[[0.0, 0.0, 3.5, 4.0], [1.0, 1.0, 2.0, 2.0]],
            all_bboxes=[[[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.5, 4.0]], [[1.0, 1.0, 2.0, 2.0]]],
        ),
        '/data/images',
    )
    man, bike = entry.pop('queries')
    assert entry == dict(
        image='12.jpg',
        height=5,
        width=6,
        image_id='12',
        caption='A man on  the red bike .',
        sentence_id=3,
    )
    assert man == dict(
        text='A man',
        bbox=[0, 0, 3.5, 4],
        boxes=[[0, 0, 1, 1], [2, 2, 3.5, 4]],
        tokens_positive=[[0, 5]],
        type='people',
        id='7',
    )
    assert bike == dict(text='the red bike', bbox=[1, 1, 2, 2], tokens_positive=[[10, 22]], id='8')


def test_widths_survive_corners(converters):
    entries = converters('grounding_entries')
    for box in ([1.1, 2.2, 2.0, 1.1], [0.1, 0.7, 0.2, 0.1], [303.58, 69.03, 293.29, 425.79]):
        assert entries.extent(*entries.corners(*box)) == box


def test_missing_sizes_come_from_the_pictures(tmp_path, convert, refuse):
    source = write_lines(
        tmp_path / 'a.jsonl', [{'image': 'p.png', 'text': 'x', 'bbox': [0, 0, 1, 1]}]
    )
    message = refuse(source, tmp_path / 'o.json', '--to', 'odvg')
    assert 'p.png has no "height" and "width"' in message and '--images' in message
    assert 'p.png: cannot be read' in refuse(
        source, tmp_path / 'o.json', '--to', 'odvg', '--images', tmp_path
    )
    Image.new('L', (30, 20)).save(tmp_path / 'p.png')
    convert(source, tmp_path / 'o.json', '--to', 'odvg', '--images', tmp_path)
    assert [read_lines(tmp_path / 'o.json')[0][k] for k in ('height', 'width')] == [20, 30]


def test_bad_input_is_named_and_leaves_no_file(samples, tmp_path, refuse):
    good = json.dumps(LINES[0]).encode()
    cases = {
        'cut.jsonl': (good + b'\n{"image": "b.jpg", "qu', 'cut.jsonl:2: no valid JSON'),
        'latin.jsonl': (good + b'\n{"image": "caf\xe9.jpg"}', 'latin.jsonl:2: byte 15 of the line'),
        'schema.jsonl': (good + b'\n{"image": "b.jpg", "queries": []}', '"queries" is empty'),
        'boxless.jsonl': (b'{"image": "b.jpg", "text": "x"}', 'has no "bbox"'),
        'text.json': (b'no json', 'text.json is not an MDETR file'),
        'orphan.json': (
            b'{"images": [], "annotations": [{"id": 5, "image_id": 3}]}',
            'annotation 5 belongs to image 3',
        ),
        'spans.json': (
            b'{"images": [{"id": 1, "file_name": "a", "height": 1, "width": 1, "caption": "x"}], '
            b'"annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1], "tokens_positive": [[0, 9]]}]}',
            'image record 1 or one of its annotations',
        ),
        'evil.pth': (pickle.dumps(print), 'evil.pth'),
    }
    for name, (content, message) in cases.items():
        source = tmp_path / name
        source.write_bytes(content)
        assert message in refuse(source, tmp_path / 'out' / 'o.jsonl')
        assert not list((tmp_path / 'out').glob('*')), name
    rows = [('a.jpg', [1, 2, 3, 4], 'x'), ('a.jpg', [1, 2, float('nan'), 4], 'x')]
    torch.save(rows, tmp_path / 'nan.pth')
    message = refuse(tmp_path / 'nan.pth', tmp_path / 'out' / 'o.jsonl')
    assert 'a.jpg: a number is NaN or infinite' in message
    torch.save([('a.jpg', [1, 2, 3, 4])], tmp_path / 'short.pth')
    assert 'row 0 is not a row' in refuse(tmp_path / 'short.pth', tmp_path / 'out' / 'o.jsonl')
    assert not list((tmp_path / 'out').iterdir())
    assert 'does not exist' in refuse(tmp_path / 'no.jsonl', 'o.jsonl')
    assert 'say with --to' in refuse(tmp_path / 'cut.jsonl', tmp_path / 'o.json')


@pytest.mark.parametrize('kind', ['interrupt', 'terminate', 'error'])
@pytest.mark.parametrize('target', ['jsonl', 'mdetr'])
def test_interruption_leaves_the_old_file_and_nothing_else(
    tmp_path, convert, converters, monkeypatch, kind, target
):
    source = write_lines(tmp_path / 'a.jsonl', LINES * 50)
    out = tmp_path / 'out' / 'o.json'
    out.parent.mkdir()
    out.write_text('old')
    module = converters('convert')
    original = module.read_lines

    def read(*args):
        for number, entry in enumerate(original(*args)):
            if number == 60:
                if kind == 'terminate':
                    os.kill(os.getpid(), signal.SIGTERM)
                raise KeyboardInterrupt if kind == 'interrupt' else ValueError('bad')
            yield entry

    monkeypatch.setattr(module, 'read_lines', read)
    with pytest.raises(SystemExit) as caught:
        convert(source, out, '--to', target, '--overwrite')
    assert caught.value.code == dict(interrupt=130, terminate=143, error=2)[kind]
    assert out.read_text() == 'old' and list(out.parent.iterdir()) == [out]
    monkeypatch.undo()


def test_existing_files_are_not_replaced_by_accident(tmp_path, convert, refuse):
    source = write_lines(tmp_path / 'a.jsonl', LINES)
    (tmp_path / 'b.jsonl').write_text('old')
    assert 'give --overwrite or --resume' in refuse(source, tmp_path / 'b.jsonl')
    assert 'left as it is' in convert(source, tmp_path / 'b.jsonl', '--resume')
    assert (tmp_path / 'b.jsonl').read_text() == 'old'
    convert(source, tmp_path / 'b.jsonl', '--overwrite')
    assert read_lines(tmp_path / 'b.jsonl') == LINES


def test_every_real_config_names_its_splits(repository, converters):
    folder = repository / 'configs' / '_base_' / 'datasets'
    found = converters('dataset_entries').dataset_configs
    assert list(found(Config.fromfile(folder / 'refcocog-u.py'))) == ['train', 'val', 'test']
    assert list(found(Config.fromfile(folder / 'refcoco.py'))) == ['train', 'val', 'testA', 'testB']
    for name in ('referit', 'flickr30k'):
        assert list(found(Config.fromfile(folder / f'{name}.py'))) == ['train', 'val', 'test']
    # None of them has a train, or a val and a test set.
    assert list(found(load_config('reir_shapes_argmax'))) == ['val', 'test']
    assert list(found(load_config('fcos_shapes'))) == ['train']


def test_data_sets_in_wrappers_are_converted(tmp_path, convert, refuse):
    config = tmp_path / 'config.py'
    source = write_lines(tmp_path / 'a.jsonl', LINES)
    dataset = dict(type='GroundingJSONLDataset', ann_file=str(source))
    convert(dataset['type'], tmp_path / 'plain.jsonl', '--cfg-options', f'ann_file={source}')
    repeated = dict(type='RepeatDataset', times=2, dataset=dataset)
    config.write_text(
        f"default_scope = 'mmdet'\ntrain_dataloader = dict(dataset={repeated})\n"
        'val_dataloader = None\n'
    )
    convert(config, tmp_path / 'wrapped.jsonl')
    assert read_lines(tmp_path / 'wrapped.jsonl') == read_lines(tmp_path / 'plain.jsonl')
    config.write_text('train_dataloader = None\n')
    assert 'has no data set for train, val, test' in refuse(config, tmp_path / 'c.jsonl')
