import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS

from mmvg.datasets.transforms import PackGroundingInputs

CHAIN = [
    dict(
        type='LocationAwareSelect',
        prob=0.5,
        default=[dict(type='ResizeSide', scales=[640, 608, 576, 544, 512, 480, 448])],
        cropped=[
            dict(type='ResizeSide', scales=[400, 500, 600], side='short'),
            dict(type='RandomSizeCrop', check='fixed'),
            dict(type='ResizeSide', scales=[640, 608, 576, 544, 512, 480, 448]),
        ],
    ),
    dict(type='PillowColorJitter'),
    dict(type='PillowGaussianBlur', prob=0.5),
    dict(type='FlipWithText', swap='word'),
    dict(type='PlaceOnCanvas', size=640, position='random'),
]


def test_sample_of_one_query(make_results):
    results = make_results()
    img = results['img']
    packed = PackGroundingInputs()(dict(results, query_token_ids=[[2, 3]], dataset_name='val'))
    assert packed['inputs'].dtype == torch.uint8 and packed['inputs'].shape == (3, 480, 640)
    np.testing.assert_array_equal(packed['inputs'], img.transpose(2, 0, 1))
    sample = packed['data_samples']
    assert sample.text == 'the man' and sample.queries == ['the man']
    assert sample.query_token_ids == [[2, 3]] and sample.dataset_name == 'val'
    assert type(sample.gt_instances.bboxes) is torch.Tensor
    assert sample.gt_instances.bboxes.tolist() == [[100, 120, 300, 360]]
    assert sample.gt_instances.labels.tolist() == [0]


def test_several_queries_and_prediction(make_results):
    bboxes = ((1.0, 2.0, 30.0, 40.0), (5.0, 6.0, 70.0, 80.0))
    sample = PackGroundingInputs()(make_results(bboxes=bboxes, queries=['a', 'b']))['data_samples']
    assert sample.text == ['a', 'b']
    assert sample.gt_instances.labels.tolist() == [0, 1]
    results = make_results()
    del results['gt_bboxes'], results['gt_bboxes_labels']
    assert 'bboxes' not in PackGroundingInputs()(results)['data_samples'].gt_instances


@pytest.mark.parametrize('seed', range(12))
def test_homography_takes_original_boxes_to_the_targets(make_results, through_homography, seed):
    import random

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    bboxes = [[200.0, 180.0, 260.0, 250.0], [230.0, 200.0, 300.0, 270.0]]
    results = make_results(480, 640, bboxes, ['the man', 'the bright cup'])
    for config in CHAIN:
        results = TRANSFORMS.build(config)(results)
    sample = PackGroundingInputs()(results)['data_samples']
    assert sample.img_shape == (640, 640)
    mapped = through_homography(bboxes, sample.metainfo)
    x1, y1, x2, y2 = sample.content_box
    mapped[:, 0::2] = mapped[:, 0::2].clamp(x1, x2)  # the crop clamps, the matrix does not
    mapped[:, 1::2] = mapped[:, 1::2].clamp(y1, y2)
    torch.testing.assert_close(sample.gt_instances.bboxes, mapped, atol=1e-3, rtol=0)
    assert results['homography_matrix'].dtype == np.float64
    # Only resizing scales, so the scale is that of the matrix; the flip gives its sign.
    scale = np.diag(results['homography_matrix'])[:2] * (-1 if sample.flip else 1, 1)
    np.testing.assert_allclose(scale, sample.scale_factor)
    assert (sample.gt_instances.bboxes[:, :2] >= torch.tensor([x1, y1]) - 1e-3).all()
