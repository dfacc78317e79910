import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps

from mmvg.datasets import ShapesCaptionDataset
from mmvg.datasets.shapes.language import RELATIONS


@pytest.fixture(scope='module')
def dataset():
    return ShapesCaptionDataset(num_scenes=200)


def records(dataset, count=200):
    return [dataset.get_data_info(i) for i in range(count)]


def test_captions_hold_phrases_and_true_relations(dataset):
    for record in records(dataset):
        words = record['caption'].split()
        assert [' '.join(words[a:b]) for a, b in record['query_spans']] == record['queries']
        centres = [((a + c) / 2, (b + d) / 2) for a, b, c, d in record['bboxes']]
        for i, j, name, (category,) in record['relations']:
            assert list(RELATIONS)[category] == name
            (x1, y1), (x2, y2) = centres[i], centres[j]
            assert {'left of': x2 - x1, 'right of': x1 - x2, 'above': y2 - y1, 'below': y1 - y2}[
                name
            ] > 0
            between = words[record['query_spans'][i][1] : record['query_spans'][j][0]]
            assert ' '.join(between) == name


def test_about_a_third_of_the_phrases_needs_the_rest_of_the_caption(dataset):
    types = [t for record in records(dataset) for t in record['query_types']]
    assert 0.25 < types.count('in context') / len(types) < 0.45


def test_detections_are_poor_but_good_enough(dataset):
    """Every shape is nearly always there, and hardly ever well framed."""
    best, labels = [], []
    for record in records(dataset):
        proposals = record['proposals']
        assert len({len(proposals[k]) for k in ('bboxes', 'scores', 'labels')}) == 1
        assert (proposals['bboxes'] >= 0).all() and (proposals['bboxes'] <= 64).all()
        overlaps = bbox_overlaps(torch.tensor(record['bboxes']), torch.tensor(proposals['bboxes']))
        best += overlaps.amax(1).tolist()
        labels += proposals['labels'].tolist()
    assert np.mean(np.array(best) >= 0.5) > 0.95
    assert 0.6 < np.mean(best) < 0.75
    assert set(labels) == {0, 1, 2}


def test_scenes_follow_from_the_seed(dataset):
    again, other = ShapesCaptionDataset(num_scenes=3), ShapesCaptionDataset(num_scenes=3, seed=1)
    for i, same in enumerate(records(again, 3)):
        first = dataset.get_data_info(i)
        assert first['caption'] == same['caption'] != other.get_data_info(i)['caption']
        assert (first['proposals']['bboxes'] == same['proposals']['bboxes']).all()
        assert (first['img'] == same['img']).all()


@pytest.mark.parametrize(
    'options',
    [
        dict(types=['relation']),
        dict(queries_per_scene=1),
        dict(constant_query='the object'),
        dict(group_by_image=True, max_queries=1),
    ],
)
def test_what_the_caption_decides_cannot_be_asked_for(options):
    with pytest.raises(ValueError, match=f'takes no {list(options)[-1]}: .*ShapesGroundingDataset'):
        ShapesCaptionDataset(num_scenes=1, **options)
