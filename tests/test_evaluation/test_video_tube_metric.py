import json

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement as DataSample

from mmvg.evaluation import VideoTubeMetric
from mmvg.evaluation.metrics.tube_overlap import TrueTube
from mmvg.evaluation.metrics.video_tube_metric import _table

SEGMENT = (0, 100)
BOX = np.array([10.0, 10, 30, 30])
HALF = np.array([10.0, 10, 30, 20])  # IoU 1/2 with BOX


def true_tube(begin, end, box=BOX):
    return dict(span=(begin, end), bboxes=np.tile(box, (end - begin, 1)).astype(np.float32))


def tube(begin, end, box=HALF, segment=SEGMENT):
    length = segment[1] - segment[0]
    return dict(span=(begin, end), bboxes=np.tile(box, (length, 1)).astype(np.float32), score=0.5)


def sample(truths, predictions, types=None, segment=SEGMENT, name='', **more):
    return dict(
        video_id='v',
        dataset_name=name,
        segment=segment,
        frame_ids=np.arange(*segment, 5),
        queries=['q'] * len(truths),
        query_ids=list(range(len(truths))),
        query_types=types or ['declarative'] * len(truths),
        tubes=truths,
        pred_tubes=predictions,
        **more,
    )


def rate(*samples, **options):
    metric = VideoTubeMetric(**options)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.mark.parametrize(
    ('options', 'tiou', 'viou'),
    [
        (dict(), 8 / 14, 4 / 14),
        (dict(protocol='stcat'), 8 / 14, 4 / 14),
        (dict(protocol='hcstvg_official', dataset='hcstvg'), 8 / 14, 4 / 14),
        (dict(protocol='stcat', dataset='hcstvg'), 7 / 14, 3.5 / 14),
        (dict(protocol='tubedetr'), 8 / 14, 0.5 / 3),
    ],
)
def test_table_of_spec_2_5(options, tiou, viou):
    """Event in frames 10..19, prediction 12..23, every IoU 1/2, segment 0..100."""
    result = rate(sample([true_tube(10, 20)], [tube(12, 24)]), **options)
    assert result['declarative/m_tIoU'] == pytest.approx(100 * tiou, abs=1e-4)
    assert result['declarative/m_vIoU'] == pytest.approx(100 * viou, abs=1e-4)
    assert result['declarative/m_sIoU'] == 50.0


@pytest.mark.parametrize(('protocol', 'share'), [('stcat', 90.0), ('hcstvg_official', 100.0)])
def test_perfect_tube_on_hcstvg(protocol, share):
    """Quirk 4: STCAT takes the last frame for the end of a half-open range."""
    result = rate(
        sample([true_tube(10, 20)], [tube(10, 20, BOX)]), protocol=protocol, dataset='hcstvg'
    )
    assert result['declarative/m_tIoU'] == result['declarative/m_vIoU'] == share
    assert result['declarative/m_sIoU'] == 100.0


def test_stcat_clips_events_at_the_last_frame_of_the_segment():
    """Quirk 3: only events that reach the end of the segment lose a frame."""
    inner = sample([true_tube(80, 99)], [tube(80, 99, BOX)])
    clipped = sample([true_tube(80, 100)], [tube(80, 100, BOX)])
    assert rate(inner, protocol='stcat')['declarative/m_vIoU'] == 100.0
    assert rate(clipped, protocol='stcat')['declarative/m_vIoU'] == 95.0
    assert rate(clipped)['declarative/m_vIoU'] == 100.0


def test_tubedetr_on_hcstvg_has_the_truth_one_frame_late():
    """Quirk 5; and boxes are compared on the sampled frames only (quirk 1)."""
    item = sample([true_tube(10, 20)], [tube(10, 20, BOX)])
    result = rate(item, protocol='tubedetr', dataset='hcstvg')
    assert result['declarative/m_tIoU'] == pytest.approx(100 * 9 / 11, abs=1e-4)
    # Sampled 0, 5, ...: truth 11..20 has 15 and 20, prediction 10..19 has 10 and 15.
    assert result['declarative/m_vIoU'] == pytest.approx(100 / 3, abs=1e-4)
    last = sample([true_tube(90, 100)], [tube(90, 100, BOX)])
    assert rate(last, protocol='tubedetr', dataset='hcstvg')['declarative/m_tIoU'] == 90.0


def test_boxes_are_taken_by_frame_number():
    """A moving box in a segment that does not start at 0."""
    frames = np.arange(200, 260)
    moving = np.stack([frames, frames, frames + 10, frames + 10], 1).astype(np.float32)
    truth = dict(span=(210, 230), bboxes=moving[10:30])
    right = dict(span=(220, 240), bboxes=moving, score=1.0)
    late = dict(span=(220, 240), bboxes=np.roll(moving, 1, 0), score=1.0)
    result = rate(sample([truth], [right], segment=(200, 260)))
    assert result['declarative/m_vIoU'] == pytest.approx(100 / 3, abs=1e-4)
    assert result['declarative/m_sIoU'] == 100.0
    off_by_one = 81 / (200 - 81)
    result = rate(sample([truth], [late], segment=(200, 260)))
    assert result['declarative/m_sIoU'] == pytest.approx(100 * off_by_one, abs=1e-4)


def test_disjoint_spans_score_nothing():
    result = rate(sample([true_tube(10, 20)], [tube(30, 40, BOX)]))
    assert result['declarative/m_tIoU'] == result['declarative/m_vIoU'] == 0
    assert result['declarative/m_sIoU'] == 100.0
    touching = rate(sample([true_tube(10, 20)], [tube(20, 30, BOX)]))
    assert touching['declarative/m_tIoU'] == 0


def test_thresholds_are_strict():
    """vIoU of exactly .5 is not above .5."""
    result = rate(sample([true_tube(10, 20)], [tube(10, 20)]), iou_thrs=(0.3, 0.5))
    assert result['declarative/m_vIoU'] == 50.0
    assert result['declarative/vIoU@0.3'] == 100.0 and result['declarative/vIoU@0.5'] == 0


def test_types_and_data_sets_are_never_pooled():
    kinds = ['declarative', 'interrogative', 'interrogative']
    good, bad = tube(10, 20, BOX), tube(40, 50, BOX)
    item = sample([true_tube(10, 20)] * 3, [good, bad, good], kinds, name='val')
    other = sample([true_tube(10, 20)], [bad], name='test')
    result = rate(item, other)
    assert result['val/declarative/m_vIoU'] == 100.0
    assert result['val/interrogative/m_vIoU'] == 50.0
    assert result['test/declarative/m_vIoU'] == 0
    assert {k.split('/')[0] for k in result} == {'val', 'test'}


def test_answers_are_reported_beside_each_other():
    item = sample([true_tube(10, 20)], [tube(10, 20)], q_tubes=[tube(12, 24)], name='val')
    result = rate(item, answers=dict(q='q_tubes'))
    assert result['val/declarative/m_vIoU'] == 50.0
    assert result['val/q/declarative/m_vIoU'] == pytest.approx(400 / 14, abs=1e-4)
    assert 'val/q/declarative/segment/m_vIoU' not in result  # that of no answer in particular
    with pytest.raises(ValueError, match=r"1 sentences but 0 tubes in 'q_tubes'"):
        rate(sample([true_tube(10, 20)], [tube(10, 20)]), answers=dict(q='q_tubes'))


def test_a_list_that_stands_under_two_names_is_rated_once(monkeypatch):
    """VCMA's ``pred_tubes`` is its ``p_tubes``, also after the copy that data samples make."""
    calls = []
    ious = TrueTube.ious
    monkeypatch.setattr(TrueTube, 'ious', lambda *args: calls.append(args) or ious(*args))
    answer, other = [tube(10, 20)] * 3, [tube(12, 24)] * 3
    item = sample([true_tube(10, 20)] * 3, answer)
    data_sample = DataSample(metainfo=dict(item, p_tubes=answer, q_tubes=other))
    result = rate(data_sample.to_dict(), answers=dict(p='p_tubes', q='q_tubes'))
    assert len(calls) == 6
    assert result['declarative/m_vIoU'] == result['p/declarative/m_vIoU'] == 50.0
    assert result['q/declarative/m_vIoU'] == pytest.approx(400 / 14, abs=1e-4)
    calls.clear()
    apart = dict(item, p_tubes=list(answer), q_tubes=other)
    assert rate(apart, answers=dict(p='p_tubes', q='q_tubes')) == result and len(calls) == 9


def test_whole_segment_baselines():
    result = rate(sample([true_tube(10, 50)], [tube(10, 20)]))
    assert result['declarative/segment/m_tIoU'] == 40.0
    assert result['declarative/segment/m_vIoU'] == 40.0  # true boxes
    assert result['declarative/segment/vIoU@0.3'] == 100.0
    assert result['declarative/segment/vIoU@0.5'] == 0
    assert result['declarative/own_tube_segment/m_vIoU'] == 20.0  # IoU 1/2


def test_oracle_is_the_best_candidate_of_each_sentence():
    far = np.array([60.0, 60, 80, 80])
    candidates = np.stack([tube(0, 1, box)['bboxes'] for box in (HALF, far)])
    truths = [true_tube(10, 20), true_tube(30, 90, far)]
    chosen = [tube(10, 20, far), tube(30, 90, far)]
    for given in (candidates, torch.from_numpy(candidates)):
        result = rate(sample(truths, chosen, candidate_tubes=given))
        assert result['declarative/oracle_tube/m_vIoU'] == 75.0
        assert result['declarative/oracle_tube/vIoU@0.5'] == 50.0
    none = rate(sample(truths, chosen, candidate_tubes=np.zeros((0, 100, 4))))
    assert none['declarative/oracle_tube/m_vIoU'] == 0
    assert not any('oracle' in key for key in rate(sample(truths, chosen)))


def test_no_answer_beats_the_oracle():
    rng = np.random.RandomState(0)
    corners = rng.rand(6, 40, 2, 2).cumsum(2).reshape(6, 40, 4)
    truth = rng.rand(40, 2, 2).cumsum(1).reshape(40, 4)
    for _ in range(20):
        b, e = sorted(rng.choice(41, 2, replace=False))
        s, t = sorted(rng.choice(41, 2, replace=False))
        chosen = dict(span=(s, t), bboxes=corners[rng.randint(6)])
        result = rate(
            sample(
                [dict(span=(b, e), bboxes=truth[b:e])],
                [chosen],
                segment=(0, 40),
                candidate_tubes=corners,
            )
        )
        bound = result['declarative/oracle_tube/m_vIoU']
        assert result['declarative/m_vIoU'] <= bound + 1e-9
        assert result['declarative/m_sIoU'] <= bound + 1e-9
        frames = range(max(b, s), min(e, t))
        by_hand = sum(float(iou(chosen['bboxes'][f], truth[f])) for f in frames)
        by_hand /= max(e, t) - min(b, s)
        assert result['declarative/m_vIoU'] == pytest.approx(100 * by_hand, abs=1e-3)


def iou(a, b):
    inner = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return inner / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner)


def test_frames_without_a_true_box_count_as_wrong(caplog):
    """Quirk 8."""
    truth = true_tube(10, 20)
    truth['bboxes'][:4] = np.nan
    result = rate(sample([truth], [tube(10, 20, BOX)]))
    assert result['declarative/m_vIoU'] == result['declarative/m_sIoU'] == 60.0
    assert result['declarative/m_tIoU'] == 100.0
    assert result['declarative/segment/m_vIoU'] == 6.0


def test_boxes_without_area_score_0():
    """Quirk 9: the published code has 0 / 0 there."""
    point = np.array([10.0, 10, 10, 10])
    result = rate(sample([true_tube(10, 20, point)], [tube(10, 20, point)]))
    assert result['declarative/m_vIoU'] == 0


def test_missing_tubes():
    """Quirk 7."""
    item = sample([true_tube(10, 20)] * 2, [None, tube(10, 20, BOX)])
    for protocol in ('native', 'tubedetr'):
        with pytest.raises(ValueError, match=r'video v.*pred_tubes\[0\].*there is no tube'):
            rate(item, protocol=protocol)
    assert rate(item, protocol='stcat')['declarative/m_vIoU'] == 100.0
    assert rate(item, protocol='hcstvg_official')['declarative/m_vIoU'] == 50.0


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(pred_tubes=[]), r"1 sentences but 0 tubes in 'pred_tubes'"),
        (dict(tubes=None), 'test_mode=True'),
        (dict(pred_tubes=[dict(span=(10, 10), bboxes=np.zeros((100, 4)))]), 'is empty'),
        (dict(pred_tubes=[dict(span=(10, 20), bboxes=np.zeros((10, 4)))]), 'each of the 100'),
        (dict(pred_tubes=[tube(1, 2, BOX * np.nan)]), '400 values missing'),
    ],
)
def test_what_cannot_be_rated_is_explained(change, message):
    with pytest.raises(ValueError, match=message):
        rate({**sample([true_tube(10, 20)], [tube(10, 20)]), **change})


def test_unusable_options_are_explained():
    for options in (dict(protocol='stvg'), dict(dataset='vidor')):
        with pytest.raises(ValueError, match='must be'):
            VideoTubeMetric(**options)
    item = sample([true_tube(10, 20)], [tube(10, 20)])
    item['frame_ids'] = None
    with pytest.raises(ValueError, match='frame_ids'):
        rate(item, protocol='tubedetr')


def test_each_item_is_one_entry_that_json_can_hold(tmp_path):
    """mmengine cuts what it collects from several processes to the number of items."""
    out_file = tmp_path / 'sub' / 'ratings.json'
    metric = VideoTubeMetric(out_file=str(out_file))
    item = sample([true_tube(10, 20)] * 3, [tube(10, 20), tube(12, 24), tube(10, 20)])
    item['pred_tubes'][0]['span'] = tuple(torch.tensor([10, 20]))
    metric.process({}, [item, item])
    assert len(metric.results) == 2
    assert metric.evaluate(1)['declarative/m_tIoU'] == pytest.approx(
        100 * (2 + 8 / 14) / 3, abs=1e-4
    )
    dump = json.loads(out_file.read_text(encoding='utf-8'))
    assert dump['meta']['protocol'] == 'native' and len(dump['samples']) == 1
    assert VideoTubeMetric().compute_metrics(dump['samples'])['declarative/m_vIoU'] > 0


def test_the_table_has_a_line_per_answer_and_bound():
    figures = {'m_tIoU': 12.34, 'm_vIoU': 5.0, 'own_tube_segment/m_vIoU': 1.0}
    title, *lines = _table('val', {'': figures, 'q': figures, 'segment': figures}).split('\n')
    assert title.split() == ['val', 'm_tIoU', 'm_vIoU']
    assert [line.split()[0] for line in lines] == ['answer', 'q', 'whole']
    assert lines[0].split()[1:] == ['12.3', '5.0']


def vidstg_samples(path):
    """Every sentence of a VidSTG file with one box for all frames, answered by the segment."""
    for record in json.loads(path.read_text(encoding='utf-8')):
        segment = record['used_segment']['begin_fid'], record['used_segment']['end_fid'] + 1
        span = record['temporal_gt']['begin_fid'], record['temporal_gt']['end_fid']
        types = ['declarative'] * len(record['captions'])
        types += ['interrogative'] * len(record['questions'])
        answer = tube(*segment, BOX, segment)
        yield sample([true_tube(*span)] * len(types), [answer] * len(types), types, segment=segment)


def test_whole_segment_baseline_of_the_real_vidstg(samples):
    """Spec 2.5: 40.4 / 40.5 on val.

    Its 39.41 / 39.77 on test (5 item 6) go unchecked: of that file the samples hold 300 of 4610 records.
    """
    result = rate(*vidstg_samples(samples / 'vidstg' / 'annotations' / 'val_annotations.json'))
    for kind, expected in (('declarative', 40.4), ('interrogative', 40.5)):
        assert result[f'{kind}/m_tIoU'] == pytest.approx(expected, abs=0.05)
        for name in ('m_tIoU', 'm_vIoU', 'vIoU@0.3', 'vIoU@0.5'):
            baseline = result[f'{kind}/segment/{name}']
            assert result[f'{kind}/{name}'] == pytest.approx(baseline, abs=1e-3)
        assert result[f'{kind}/own_tube_segment/m_vIoU'] == result[f'{kind}/m_vIoU']
        assert result[f'{kind}/m_sIoU'] == 100.0
