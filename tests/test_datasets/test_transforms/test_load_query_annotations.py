import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes

from mmvg.datasets.transforms import LoadQueryAnnotations, ResizeSide


def record(bboxes, queries=None, **extra):
    return dict(
        img_path='a.jpg',
        source='list.jsonl:3',
        ori_shape=(48, 64),
        bboxes=bboxes,
        queries=queries or ['the man'] * len(bboxes),
        **extra,
    )


def test_boxes_and_labels_of_k_queries():
    out = LoadQueryAnnotations()(record([[1, 2, 3, 4], [0.5, 0, 64, 48]]))
    assert isinstance(out['gt_bboxes'], HorizontalBoxes)
    assert out['gt_bboxes'].tensor.dtype == torch.float32
    assert out['gt_bboxes'].tensor.tolist() == [[1, 2, 3, 4], [0.5, 0, 64, 48]]
    np.testing.assert_array_equal(out['gt_bboxes_labels'], [0, 1])
    assert out['gt_bboxes_labels'].dtype == np.int64


def test_prediction_needs_no_boxes():
    results = dict(queries=['a'], ori_shape=(4, 4))
    assert 'gt_bboxes' not in LoadQueryAnnotations()(results)


def test_boxes_over_the_border_are_kept():
    out = LoadQueryAnnotations()(record([[-3, -2, 70, 50]]))
    assert out['gt_bboxes'].tensor.tolist() == [[-3, -2, 70, 50]]


@pytest.mark.parametrize(
    'bboxes, problem',
    [
        ([[5, 5, 5, 9]], 'zero-size box'),
        ([[5, 9, 8, 5]], 'zero-size box'),
        ([[64, 0, 70, 9]], 'box outside the image: box 0 .*64 x 48'),
        ([[1, 2, 3, 4], [-9, 0, 0, 9]], 'outside the image: box 1'),
        ([[0, 0, float('nan'), 9]], 'non-finite box'),
        ([[0, 0, float('inf'), 9]], 'non-finite box'),
    ],
)
def test_bad_box_names_the_record(bboxes, problem):
    with pytest.raises(ValueError, match=f'list.jsonl:3, image a.jpg: .*{problem}'):
        LoadQueryAnnotations()(record(bboxes))


def test_one_box_per_query():
    with pytest.raises(ValueError, match='for 2 queries'):
        LoadQueryAnnotations()(record([[1, 2, 3, 4]], queries=['a', 'b']))


def test_must_come_before_geometry(make_results):
    with pytest.raises(ValueError, match='before every geometric'):
        LoadQueryAnnotations()(ResizeSide(64)(make_results()))
