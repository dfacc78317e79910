import json

import numpy as np
import pytest
import torch

from mmvg.evaluation import GroundingMetric


def sample(predicted, truth, name='val', types=None, proposals=None, matrix=None, queries=None):
    predicted, truth = (
        torch.tensor(b, dtype=torch.float32).view(-1, 4) for b in (predicted, truth)
    )
    item = dict(
        dataset_name=name,
        img_id=1,
        img_path='a.jpg',
        queries=queries or ['q'] * len(truth),
        query_types=types,
        ori_shape=(100, 100),
        batch_input_shape=(100, 100),
        homography_matrix=matrix,
        gt_instances=dict(bboxes=truth),
        pred_instances=dict(
            bboxes=predicted.clamp(0, 100),
            canvas_bboxes=predicted,
            scores=torch.ones(len(predicted)),
        ),
    )
    if proposals is not None:
        item['proposals'] = dict(bboxes=torch.tensor(proposals, dtype=torch.float32).view(-1, 4))
    return item


def rate(samples, **kwargs):
    metric = GroundingMetric(**kwargs)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_iou_of_exactly_one_half_counts():
    """Spec 1.8, P13."""
    result = rate([sample([0, 0, 10, 10], [0, 0, 10, 20])], iou_thrs=(0.5, 0.51))
    assert result == {
        'val/acc@0.5': 100.0,
        'val/acc@0.51': 0.0,
        'val/miou': 50.0,
        'val/point_it': 100.0,
    }


def test_every_query_counts_once_and_each_sample_is_one_entry():
    metric = GroundingMetric()
    metric.process(
        {},
        [
            sample([[0, 0, 9, 9]] * 3, [[0, 0, 9, 9], [50, 50, 60, 60], [50, 0, 60, 9]]),
            sample([0, 0, 9, 9], [0, 0, 9, 9]),
        ],
    )
    assert len(metric.results) == 2
    assert metric.evaluate(2)['val/acc@0.5'] == 50.0


def test_data_sets_are_reported_apart():
    result = rate(
        [sample([0, 0, 9, 9], [0, 0, 9, 9], 'testA'), sample([0, 0, 1, 1], [5, 5, 9, 9], 'testB')]
    )
    assert result['testA/acc@0.5'] == 100.0 and result['testB/acc@0.5'] == 0.0
    assert 'acc@0.5' in rate([sample([0, 0, 9, 9], [0, 0, 9, 9], name='')])


def test_types_are_reported_and_queries_without_one_are_not_lost():
    result = rate(
        [sample([[0, 0, 9, 9], [0, 0, 1, 1]], [[0, 0, 9, 9], [5, 5, 9, 9]], types=['a', 'b'])]
    )
    assert result['val/a/acc@0.5'] == 100.0 and result['val/b/acc@0.5'] == 0.0
    result = rate([sample([[0, 0, 9, 9]] * 2, [[0, 0, 9, 9]] * 2, types=['a', None])])
    assert result['val/untyped/acc@0.5'] == 100.0
    assert not any('untyped' in k for k in rate([sample([0, 0, 9, 9], [0, 0, 9, 9])]))


def test_point_it_is_about_the_centre():
    result = rate([sample([0, 0, 10, 10], [4, 4, 6, 6]), sample([0, 0, 10, 10], [6, 6, 9, 9])])
    assert result['val/point_it'] == 50.0 and result['val/acc@0.5'] == 0.0


def test_upper_bound_is_the_best_proposal():
    result = rate(
        [
            sample([0, 0, 1, 1], [0, 0, 9, 9], proposals=[[5, 5, 6, 6], [0, 0, 9, 8]]),
            sample([0, 0, 1, 1], [0, 0, 9, 9], proposals=[]),
        ]
    )
    assert result['val/upper_bound@0.5'] == 50.0


def test_protocols_differ_in_clipping():
    """The canvas protocol clips to the canvas, not to the image on it; truth is never clipped."""
    matrix = np.array([[1.0, 0, 20], [0, 1, 0], [0, 0, 1]])  # the image starts at x = 20
    item = sample([0, 0, 40, 10], [20, 0, 40, 10], matrix=matrix)
    item['pred_instances']['bboxes'] = torch.tensor([[0.0, 0, 20, 10]])
    assert rate([item])['val/miou'] == 100.0
    assert rate([item], protocol='canvas')['val/miou'] == 50.0
    beyond = sample([-10, 0, 10, 10], [-10, 0, 10, 10])
    assert rate([beyond], protocol='canvas')['val/miou'] == 50.0


def test_a_dump_rates_the_same(tmp_path):
    samples = [
        sample(
            [[0, 0, 9, 9.3], [0, 0, 1, 1]],
            [[0, 0, 9, 9], [5, 5, 9, 9]],
            types=['a', 'b'],
            queries=['левый', 'q'],
        )
    ]
    out_file = tmp_path / 'sub' / 'predictions.json'
    result = rate(samples, out_file=str(out_file))
    dump = json.loads(out_file.read_text(encoding='utf-8'))
    assert dump['samples'][0]['queries'][0] == 'левый'
    assert GroundingMetric().compute_metrics(dump['samples']) == result


def test_missing_truth_and_unknown_protocol_are_explained():
    with pytest.raises(ValueError, match='a.jpg: 2 queries but 1 true boxes'):
        rate([sample([0, 0, 9, 9], [0, 0, 9, 9], queries=['a', 'b'])])
    with pytest.raises(ValueError, match='protocol'):
        GroundingMetric(protocol='padded')
