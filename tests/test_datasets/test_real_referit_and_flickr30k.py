"""ReferItGame and Flickr30k Entities on real annotations and pictures."""

import json
import os
from collections import Counter

import numpy as np
import pytest
import torch

from mmvg.datasets import Flickr30kEntitiesDataset, ReferItGameDataset


def read_json(path):
    return json.loads(path.read_text(encoding='utf-8'))


def records_of(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def keys_of(records):
    return Counter((r['img_id'], r['queries'][0], tuple(r['bboxes'][0])) for r in records)


def original_referit(samples, **kwargs):
    return ReferItGameDataset(
        data_root=str(samples / 'referitgame' / 'text_objseg'),
        bbox_file='referit_bbox_subset.json',
        imsize_file='referit_imsize_subset.json',
        data_prefix=dict(img=str(samples / 'referitgame' / 'images')),
        **kwargs,
    )


# --- ReferItGame


def test_both_layouts_of_referit_val_are_the_same_5842_expressions(samples):
    original = records_of(original_referit(samples, split='val'))
    folder = samples / 'referitgame' / 'transvg_splits'
    index = records_of(
        ReferItGameDataset(
            str(folder / 'original_pth' / 'referit_val.pth'),
            layout='transvg',
            truncate_boxes=True,  # boxes are integers already
        )
    )
    assert len(original) == len(index) == 5842
    assert keys_of(original) == keys_of(index)
    copy = read_json(folder / 'referit_val.json')['rows']
    assert len(copy) == 5842 and {r['img_id'] for r in index} == {row[0] for row in copy}
    ids = [r['query_ids'][0] for r in original]
    assert len(set(ids)) == len(ids)
    # No box reaches the border of its picture as stored; thousands do in truth.
    edge = [r['bboxes'][0][2] == r['width'] for r in original]
    exact = records_of(original_referit(samples, split='val', box_origin='exact'))
    assert not any(edge)
    assert sum(r['bboxes'][0][2] == r['width'] for r in exact) > 2000


def test_referit_image_lists(samples):
    listed = original_referit(samples, split='val', image_list='referit_val_imlist.txt')
    assert len(listed) == 5842
    with pytest.raises(ValueError, match='of different splits'):
        original_referit(samples, split='val', image_list='referit_test_imlist.txt')


def test_referit_test_pictures_through_the_pipeline(samples):
    dataset = original_referit(
        samples,
        ann_file='referit_query_test_subset.json',
        lower_case=False,
        test_mode=True,
        pipeline=[dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations')],
    )
    expected = {}
    for row in read_json(samples / 'referitgame' / 'matched_expressions.json')['rows']:
        expected[row['expression']] = row['bbox_xyxy_inclusive']
    found = 0
    for i in range(len(dataset)):
        if os.path.isfile(dataset.get_data_info(i)['img_path']):
            sample = dataset[i]
            assert sample['gt_bboxes'].tensor.tolist() == [expected[sample['queries'][0]]]
            assert sample['img'].shape == (sample['height'], sample['width'], 3) == (360, 480, 3)
            found += 1
    assert found == len(expected) == 7


# --- Flickr30k Entities


def flickr_rows(samples, split):
    return read_json(samples / 'flickr30k_entities' / 'transvg_splits' / f'flickr_{split}.json')[
        'rows'
    ]


@pytest.fixture
def flickr(samples, tmp_path):
    """Read a real split: that of the index file, or of its JSON copy written as one."""

    def read(split, **kwargs):
        folder = samples / 'flickr30k_entities'
        path = folder / 'transvg_splits' / 'original_pth' / f'flickr_{split}.pth'
        if not path.is_file():
            path = tmp_path / f'flickr_{split}.pth'
            rows = [(i, np.array(b, np.float32), p) for i, b, p in flickr_rows(samples, split)]
            torch.save(rows, path, _use_new_zipfile_serialization=False)
        return Flickr30kEntitiesDataset(
            str(path), layout='transvg', data_prefix=dict(img=str(folder / 'images')), **kwargs
        )

    return read


@pytest.mark.parametrize('split, phrases, pictures', [('val', 14433, 1000), ('test', 14481, 1000)])
def test_flickr_counts_and_boxes(flickr, samples, split, phrases, pictures):
    records = records_of(flickr(split))
    assert len(records) == phrases
    rows = flickr_rows(samples, split)
    assert keys_of(records) == Counter((i, p.lower(), tuple(map(float, b))) for i, b, p in rows)
    official = (samples / 'flickr30k_entities' / 'official' / f'{split}.txt').read_text().split()
    assert len(official) == pictures
    assert {r['img_id'] for r in records} <= {f'{i}.jpg' for i in official}
    # The stored boxes count pixels from 1: none begins at 0, and stored ones are whole numbers.
    boxes = np.array([r['bboxes'][0] for r in records])
    assert boxes.min() == 1 and (boxes == boxes.astype(int)).all()
    exact = flickr(split, box_origin='exact', truncate_boxes=True).get_data_info(0)['bboxes'][0]
    np.testing.assert_allclose(boxes[0] - exact, [1, 1, 0, 0])
    assert len(flickr(split, group_by_image=True)) == len({r['img_id'] for r in records})


def test_flickr_matched_pictures_through_the_pipeline(flickr, samples):
    expected = Counter()
    for row in read_json(samples / 'flickr30k_entities' / 'matched_phrases.json')['rows']:
        size = row['width'], row['height']
        expected[row['image'], row['phrase'], tuple(map(float, row['bbox_xyxy'])), size] += 1
    found = Counter()
    pipeline = [dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations')]
    for split in ('val', 'test'):
        dataset = flickr(split, group_by_image=True, pipeline=pipeline, test_mode=True)
        for i in range(len(dataset)):
            if os.path.isfile(dataset.get_data_info(i)['img_path']):
                sample = dataset[i]
                size = sample['img'].shape[1::-1]
                for query, box in zip(sample['queries'], sample['gt_bboxes'].tensor.tolist()):
                    found[sample['img_id'], query, tuple(box), size] += 1
    assert found == expected and found.total() == 209


def entities(samples, tmp_path, *images, **kwargs):
    (tmp_path / 'split.txt').write_text('\n'.join(images))
    folder = samples / 'flickr30k_entities'
    return Flickr30kEntitiesDataset(
        str(tmp_path / 'split.txt'),
        data_root=str(folder / 'reconstructed'),
        data_prefix=dict(img=str(folder / 'images')),
        **kwargs,
    )


def test_reconstructed_files_equal_the_index_rows(flickr, samples, tmp_path):
    """Same number, order within the picture, and boxes; the index dropped stop words."""
    records = records_of(entities(samples, tmp_path, '1016887272', one_phrase=True))
    rows = [r for r in records_of(flickr('test')) if r['img_id'] == '1016887272.jpg']
    assert [r['bboxes'] for r in records] == [r['bboxes'] for r in rows] and len(rows) == 16
    for record, row in zip(records, rows):
        assert set(row['queries'][0].split()) <= set(record['queries'][0].split())
    assert records[0]['query_ids'] == ['547'] and records[0]['bboxes'] == [[162, 102, 256, 454]]


def test_reconstructed_files_equal_the_processed_records(samples, tmp_path):
    """The published records hold what the official parser gives: boxes from 0."""
    dataset = entities(
        samples,
        tmp_path,
        '3359636318',
        '1016887272',
        multi_box='any',
        box_origin='official',
        lower_case=False,
    )
    records = records_of(dataset)
    processed = read_json(samples / 'flickr30k_entities' / 'processed_samples_x1aox1a.json')
    captions = [(image, a) for image in processed for a in image['annotations']]
    assert len(records) == len(captions) == 7
    for record, (image, annotation) in zip(records, captions):
        wanted = annotation['entities']
        assert record['img_id'] == image['image'] and record['caption'] == annotation['caption']
        assert [record['width'], record['height']] == image['image_size'][:2]
        assert record['queries'] == [e['noun_chunk'] for e in wanted]
        assert record['query_ids'] == [e['box_id'] for e in wanted]
        assert record['query_types'] == [e['entity_tag'][0] for e in wanted]
        assert record['all_bboxes'] == [image['boxes'][e['box_id']] for e in wanted]
        words = record['caption'].split()
        for (start, end), entity in zip(record['query_spans'], wanted):
            assert ' '.join(words[start:end]) == entity['noun_chunk']
            before = record['caption'][: entity['start_idx']]
            assert start == len(before.split())


def test_real_sentence_files_parse(samples):
    from mmvg.datasets.entities_files import parse_sentence

    files = sorted((samples / 'flickr30k_entities' / 'Sentences').glob('*.txt'))
    captions = [parse_sentence(line) for f in files for line in f.read_text().splitlines()]
    assert len(files) == 8 and len(captions) == 40
    for caption, phrases in captions:
        assert phrases and '[' not in caption and ']' not in caption
        for phrase in phrases:
            assert ' '.join(caption.split()[phrase.start : phrase.end]) == phrase.text
