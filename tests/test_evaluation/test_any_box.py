"""Phrases with several right boxes: the any-box protocol of Flickr30k Entities."""

import json

import numpy as np
import pytest
import torch

from mmvg.evaluation import GroundingMetric

PAIR = [[0, 0, 10, 10], [20, 0, 30, 10]]  # two right boxes and ...
UNION = [0, 0, 30, 10]  # ... the box around them


def sample(predicted, union, answers=None, types=None, matrix=None, proposals=None):
    predicted, union = (
        torch.tensor(b, dtype=torch.float32).view(-1, 4) for b in (predicted, union)
    )
    item = dict(
        dataset_name='val',
        img_id=1,
        img_path='a.jpg',
        queries=['q'] * len(union),
        query_types=types,
        ori_shape=(100, 100),
        batch_input_shape=(100, 100),
        homography_matrix=matrix,
        gt_instances=dict(bboxes=union),
        pred_instances=dict(
            bboxes=predicted, canvas_bboxes=predicted, scores=torch.ones(len(predicted))
        ),
    )
    if answers is not None:
        item['all_bboxes'] = answers
    if proposals is not None:
        item['proposals'] = dict(bboxes=torch.tensor(proposals, dtype=torch.float32).view(-1, 4))
    return item


def rate(samples, **kwargs):
    metric = GroundingMetric(**kwargs)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.mark.parametrize(
    'predicted, any_box, union',
    [
        ([20, 0, 30, 10], (100, 100, 100), (0, 33.3333, 100)),  # one of the two
        ([0, 0, 30, 10], (0, 33.3333, 0), (100, 100, 100)),  # its centre lies between the two
        ([0, 0, 10, 20], (100, 50, 100), (0, 25, 100)),  # IoU of exactly one half
        ([40, 40, 50, 50], (0, 0, 0), (0, 0, 0)),
    ],
)
def test_the_best_of_the_right_boxes_counts(predicted, any_box, union):
    names = ('val/acc@0.5', 'val/miou', 'val/point_it')
    result = rate([sample(predicted, UNION, [PAIR])])
    assert [result[n] for n in names] == pytest.approx(any_box)
    result = rate([sample(predicted, UNION)])
    assert [result[n] for n in names] == pytest.approx(union)


def test_queries_with_different_numbers_of_boxes_and_types():
    predicted = [[20, 0, 30, 10], [0, 0, 1, 1], [5, 5, 9, 9]]
    truth = [UNION, [50, 50, 60, 60], [5, 5, 9, 9]]
    answers = [PAIR, [[50, 50, 60, 60]], [[70, 70, 80, 80], [5, 5, 9, 9], [0, 0, 1, 1]]]
    result = rate([sample(predicted, truth, answers, types=['a', 'a', 'b'])])
    assert result['val/acc@0.5'] == pytest.approx(66.6667)
    assert (result['val/a/acc@0.5'], result['val/b/acc@0.5']) == (50, 100)
    # One right box per query is the same as none listed; both kinds may stand side by side.
    alone = rate([sample(predicted, truth, [[box] for box in truth])])
    assert alone == rate([sample(predicted, truth)])
    mixed = rate([sample(predicted, truth, answers), sample(predicted, truth)])
    assert mixed['val/acc@0.5'] == pytest.approx(50)


def test_right_boxes_are_in_the_original_image():
    """Neither scale nor flip of the network input touches them."""
    matrix = np.array([[-2.0, 0, 90], [0, 2, 30], [0, 0, 1]])
    item = sample([0, 0, 1, 1], [30, 30, 90, 50], [PAIR], matrix=matrix)
    item['pred_instances']['bboxes'] = torch.tensor([[20.0, 0, 30, 10]])
    assert rate([item])['val/acc@0.5'] == 100
    entry = GroundingMetric()
    entry.process({}, [item])
    assert entry.results[0]['gt_bboxes'] == [UNION]  # of the canvas, mapped back


def test_upper_bound_takes_any_box():
    proposals = [[20, 0, 30, 9], [50, 50, 60, 60]]
    item = sample([0, 0, 1, 1], UNION, [PAIR], proposals=proposals)
    assert rate([item])['val/upper_bound@0.5'] == 100
    item.pop('all_bboxes')
    assert rate([item])['val/upper_bound@0.5'] == 0


def test_the_canvas_protocol_and_wrong_counts_fail_at_the_first_sample():
    with pytest.raises(ValueError, match="a.jpg: any-box truth .* set protocol='image'"):
        GroundingMetric(protocol='canvas').process({}, [sample(UNION, UNION, [PAIR])])
    for answers in ([PAIR, PAIR], [[]]):
        with pytest.raises(ValueError, match='a.jpg: 1 queries, but all_bboxes has .* boxes'):
            GroundingMetric().process({}, [sample(UNION, UNION, answers)])


def test_a_dump_keeps_the_right_boxes(tmp_path, call_tool, capsys):
    out_file = tmp_path / 'predictions.json'
    items = [sample([20, 0, 30, 10], UNION, [PAIR]), sample(UNION, UNION)]
    result = rate(items, out_file=str(out_file))
    samples = json.loads(out_file.read_text(encoding='utf-8'))['samples']
    assert samples[0]['gt_bboxes_any'] == [PAIR] and 'gt_bboxes_any' not in samples[1]

    def rate_again(*options):
        lines = call_tool('analysis_tools/eval_predictions.py', out_file, *options).splitlines()
        return {k: float(v) for k, v in (line.split(': ') for line in lines if ': ' in line)}

    assert rate_again() == result
    assert rate_again('--iou-thrs', '0.9')['val/acc@0.9'] == 100
    with pytest.raises(SystemExit):
        rate_again('--protocol', 'canvas')
    assert "set protocol='image'" in capsys.readouterr().err
