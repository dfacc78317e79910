"""Both layouts on real annotations and pictures."""

import json
import os
from collections import Counter

import numpy as np
import pytest
import torch

from mmvg.datasets import ReferringExpressionDataset

COUNTS = {
    'unc_val': 10834,
    'unc_testA': 5657,
    'unc_testB': 5095,
    'unc+_val': 10758,
    'unc+_testA': 5726,
    'unc+_testB': 4889,
    'gref_umd_val': 4896,
}


@pytest.mark.parametrize('zip_format', [False, True])
@pytest.mark.parametrize('name', COUNTS)
def test_counts_of_the_real_splits(samples, transvg, name, zip_format):
    content = json.loads((samples / 'refcoco' / 'transvg_splits' / f'{name}.json').read_text())
    rows = [
        (image, f'{ann_id}.pth', box, phrase, []) for image, ann_id, box, phrase in content['rows']
    ]
    # Truncation must not lose a sample either: no stored box is less than a pixel wide.
    dataset = transvg(rows, zip_format, truncate_boxes=zip_format)
    assert len(dataset) == COUNTS[name]


def test_real_index_file_equals_its_json_copy(samples):
    folder = samples / 'refcoco' / 'transvg_splits'
    dataset = ReferringExpressionDataset(
        str(folder / 'original_pth' / 'unc_testA.pth'), layout='transvg'
    )
    rows = json.loads((folder / 'unc_testA.json').read_text())['rows']
    assert len(dataset) == len(rows) == 5657
    for i in range(0, len(rows), 97):
        record = dataset.get_data_info(i)
        image, _, (x, y, w, h), phrase = rows[i]
        assert record['img_id'] == image and record['queries'] == [phrase.lower()]
        np.testing.assert_allclose(record['bboxes'], [[x, y, x + w, y + h]])


def _real_refs(samples, name, **kwargs):
    folder = samples / 'refcoco' / 'official_layout_rebuilt' / name
    by = 'umd' if name == 'refcocog' else 'unc'
    with open(folder / f'refs({by}).json', encoding='utf-8') as f:
        refs = json.load(f)
    splits = Counter(ref['split'] for ref in (refs['refs'] if isinstance(refs, dict) else refs))
    return splits, {
        split: ReferringExpressionDataset(
            f'refs({by}).p',
            split=split,
            data_root=str(folder),
            data_prefix=dict(img=str(samples / 'refcoco' / 'images')),
            **kwargs,
        )
        for split in splits
    }


def _matched(samples):
    return json.loads((samples / 'refcoco' / 'matched_expressions.json').read_text())['rows']


@pytest.mark.parametrize('name', ['refcoco', 'refcoco+', 'refcocog'])
def test_refer_layout_gives_the_matched_boxes(samples, name):
    splits, datasets = _real_refs(samples, name)
    assert sum(splits.values()) == {'refcoco': 49, 'refcoco+': 48, 'refcocog': 6}[name]
    if name == 'refcoco':
        assert splits == dict(testA=42, testB=4, val=2, train=1)
    found = Counter()
    for split, dataset in datasets.items():
        for i in range(len(dataset)):
            record = dataset.get_data_info(i)
            assert os.path.isfile(record['img_path'])
            found[_key(split, record['img_id'], record['queries'][0], record['bboxes'][0])] += 1
    expected = Counter()
    for row in _matched(samples):
        # The refs of most train expressions are not known, so the rebuilt file lacks them.
        if row['dataset'] == name and (row['split'] != 'train' or row.get('ref_id') is not None):
            x, y, w, h = row['bbox_xywh']
            box = [x, y, x + w, y + h]
            expected[_key(row['split'], row['image_id'], row['expression'].lower(), box)] += 1
    assert found == expected


def _key(split, image_id, query, box):
    return split, image_id, query, tuple(np.round(box, 2).tolist())


def test_transvg_layout_gives_the_matched_boxes(samples, transvg):
    files = dict(refcoco='unc', refcocog='gref_umd')
    files['refcoco+'] = 'unc+'
    seen = 0
    for (name, split), rows in _by_split(_matched(samples)).items():
        path = samples / 'refcoco' / 'transvg_splits' / f'{files[name]}_{split}.json'
        if not path.is_file():
            continue  # of the train split only a part is known
        content = json.loads(path.read_text())['rows']
        dataset = transvg(
            [(i, f'{a}.pth', b, p, []) for i, a, b, p in content], serialize_data=False
        )
        boxes = {}
        for record in dataset.data_list:
            key = record['img_id'], record['queries'][0]
            boxes.setdefault(key, []).append(np.round(record['bboxes'][0], 2).tolist())
        for row in rows:
            x, y, w, h = row['bbox_xywh']
            box = np.round([x, y, x + w, y + h], 2).tolist()
            assert box in boxes[row['image'], row['expression'].lower()]
            seen += 1
    assert seen > 250


def _by_split(rows):
    groups = {}
    for row in rows:
        groups.setdefault((row['dataset'], row['split']), []).append(row)
    return groups


def test_official_ref_record(samples, refer):
    with open(samples / 'refcoco' / 'official_ref_record_example.json', encoding='utf-8') as f:
        ref = json.load(f)
    instances = dict(
        images=[
            dict(id=581857, file_name='COCO_train2014_000000581857.jpg', height=427, width=640)
        ],
        annotations=[dict(id=1719310, bbox=[1.0, 2.0, 30.0, 40.0])],
    )
    dataset = refer(refs=[ref], instances=instances)
    assert [dataset.get_data_info(i)['queries'][0] for i in range(len(dataset))] == [
        'the lady with the blue shirt',
        'lady with back to us',
        'blue shirt',
    ]
    # The odd file name of the ref (..._16.jpg) is no picture; that of the instances is.
    assert dataset.get_data_info(0)['img_path'].endswith('COCO_train2014_000000581857.jpg')


def test_real_pictures_through_the_pipeline(samples):
    pipeline = [
        dict(type='LoadGroundingImage'),
        dict(type='LoadQueryAnnotations'),
        dict(type='ResizeSide', scales=640),
        dict(type='PlaceOnCanvas', size=640),
        dict(type='TokenizeQueries', tokenizer='builtin:shapes', max_query_len=20),
        dict(type='PackGroundingInputs'),
    ]
    _, datasets = _real_refs(
        samples,
        'refcoco+',
        pipeline=pipeline,
        group_by_image=True,
        test_mode=True,
        truncate_boxes=True,
    )
    for dataset in datasets.values():
        for i in range(len(dataset)):
            packed = dataset[i]
            assert packed['inputs'].shape == (3, 640, 640)
            sample = packed['data_samples']
            assert len(sample.gt_instances) == len(sample.queries) == len(sample.query_token_ids)
            x1, y1, x2, y2 = sample.content_box
            low, high = sample.gt_instances.bboxes[:, :2], sample.gt_instances.bboxes[:, 2:]
            assert (low >= torch.tensor([x1, y1]) - 1).all()
            assert (high <= torch.tensor([x2, y2]) + 1).all()
