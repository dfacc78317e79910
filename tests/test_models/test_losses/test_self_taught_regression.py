"""Self-taught regression by value (spec reir 3.1, 3.2, 8.3, A14-A17)."""

import itertools

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps

from mmvg.structures import encode_deltas

NORMS = ('candidates', 'active', 'phrase_sum')


def build(**options):
    return MODELS.build(dict(type='SelfTaughtRegressionLoss', loss_weight=1.0, **options))


def run(boxes, confidence, deltas=None, **options):
    """Loss of one image whose phrases share boxes (P x 4) or have their own (N x P x 4)."""
    boxes, confidence = torch.tensor(boxes).float(), torch.tensor(confidence)
    boxes = boxes[None] if boxes.ndim == 2 else boxes
    if deltas is None:
        deltas = torch.zeros(*confidence.shape, 4)
    valid = torch.ones(1, *confidence.shape, dtype=torch.bool)
    return build(**options)(deltas[None], boxes[None], confidence[None], valid).item()


NEAR = [(0, 0, 100, 100), (10, 0, 110, 100), (0, 20, 100, 120), (300, 300, 350, 350)]


def test_recorded_value_of_the_coarse_stage():
    """Sum 3.0 over 12 elements of 3 candidates."""
    deltas = torch.zeros(2, 4, 4)
    deltas[0, 1, 0] = -1
    rows = [(0.6, 0.2, 0.1, 0.1), (0.1, 0.3, 0.35, 0.25)]
    assert run(NEAR, rows, deltas) == pytest.approx(0.25, abs=1e-6)
    assert build().loss_weight * 0.1 == MODELS.get('SelfTaughtRegressionLoss')().loss_weight


def test_recorded_value_of_the_fine_stage():
    boxes = [NEAR[:2], [NEAR[0], NEAR[2]]]
    assert run(boxes, [(0.7, 0.3), (0.4, 0.6)]) == pytest.approx(0.25, abs=1e-6)


def test_an_error_of_two_with_half_of_the_candidates_counted():
    """Smooth L1 of 2 in four coordinates, weights 1 and 0: (2 - 0.5) / 2."""
    boxes = torch.tensor(NEAR[:3]).float()
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 1:] = 2 + encode_deltas(boxes[1:], boxes[:1].expand(2, 4))
    rows = [(0.5, 0.1, 0.45)]
    assert run(NEAR[:3], rows, deltas) == pytest.approx(0.75, abs=1e-5)
    assert run(NEAR[:3], rows, deltas, norm='active') == pytest.approx(1.5, abs=1e-5)
    assert run(NEAR[:3], rows, deltas, score_gap=0.0) == pytest.approx(1.5, abs=1e-5)


def test_own_box_and_duplicates_are_left_out_or_stay():
    """A16: the teacher, here twice, has offsets 2 that nothing asks to be 0; unless it is told."""
    boxes, rows = [NEAR[0], NEAR[0], NEAR[3]], [(0.5, 0.4, 0.1)]
    deltas = torch.full((1, 3, 4), 2.0)
    assert run(boxes, rows, deltas) == 0
    assert run(boxes, rows, deltas, include_self=True) == pytest.approx(1.5)


def test_one_box_is_its_own_teacher():
    assert run([NEAR[0]], [(1.0,)], torch.ones(1, 1, 4)) == 0
    assert run([NEAR[0]], [(1.0,)], torch.ones(1, 1, 4), include_self=True) == 0.5


def plain(deltas, boxes, confidence, valid, iou_thr, score_gap, include_self, norm):
    """The same for one image, phrase by phrase and box by box."""
    total, candidates, active, per_phrase = 0.0, 0, 0, 0.0
    for n in range(len(confidence)):
        own = boxes[n if len(boxes) > 1 else 0]
        exist = [m for m in range(len(own)) if valid[n, m]]
        if not exist:
            continue
        best = max(exist, key=lambda m: confidence[n, m].item())
        summed, number = 0.0, 0
        for m in exist:
            iou = bbox_overlaps(own[best : best + 1], own[m : m + 1]).item()
            if iou < iou_thr or (iou == 1 and not include_self):
                continue
            number += 1
            gap = (confidence[n, best] - confidence[n, m]).item()
            if gap >= score_gap or (include_self and iou == 1):
                active += 1
                error = (
                    deltas[n, m] - encode_deltas(own[m : m + 1], own[best : best + 1])[0]
                ).abs()
                summed += torch.where(error < 1, error**2 / 2, error - 0.5).sum().item()
        total, candidates = total + summed, candidates + number
        per_phrase += summed / (4 * max(number, 1))
    divisor = dict(candidates=candidates, active=active)
    return per_phrase if norm == 'phrase_sum' else total / (4 * max(divisor[norm], 1))


def make_batch(own_boxes, phrases=(3, 1, 0, 4), proposals=(9, 5, 6, 1)):
    """Overlapping boxes for images of several sizes, with duplicates, and garbage in empty slots."""
    generator = torch.Generator().manual_seed(0)
    images, most, widest = len(phrases), max(phrases), max(proposals)
    start = torch.rand(images, most, widest, 2, generator=generator) * 12
    size = 40 + torch.rand(images, most, widest, 2, generator=generator) * 10
    boxes = torch.cat([start, start + size], -1)
    boxes[0, :, 3] = boxes[0, :, 0]
    valid = (torch.arange(most) < torch.tensor(phrases)[:, None])[:, :, None] & (
        torch.arange(widest) < torch.tensor(proposals)[:, None]
    )[:, None]
    boxes = boxes if own_boxes else boxes[:, :1]
    confidence = torch.rand(images, most, widest, generator=generator)
    deltas = torch.randn(images, most, widest, 4, generator=generator) * 2
    confidence[~valid] = 9.0
    return deltas.requires_grad_(), boxes, confidence, valid


@pytest.mark.parametrize('own_boxes', [True, False])
@pytest.mark.parametrize('include_self', [True, False])
@pytest.mark.parametrize('iou_thr, score_gap', [(0.6, 0.1), (0.6, 0.0), (0.8, 0.3)])
@pytest.mark.parametrize('norm', NORMS)
def test_a_batch_is_a_loop_over_phrases(own_boxes, include_self, iou_thr, score_gap, norm):
    options = dict(iou_thr=iou_thr, score_gap=score_gap, include_self=include_self, norm=norm)
    deltas, boxes, confidence, valid = make_batch(own_boxes)
    found = build(**options)(deltas, boxes, confidence, valid)
    expected = [
        plain(*arguments, **options)
        for arguments in zip(deltas, boxes, confidence, valid, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert found[0] > 0 and found[2] == 0
    found.sum().backward()
    assert deltas.grad.isfinite().all() and not deltas.grad[~valid].any()


@pytest.mark.parametrize('own_boxes', [True, False])
@pytest.mark.parametrize('filling', [0.0, 1e6])
def test_what_empty_slots_hold_does_not_matter(own_boxes, filling):
    deltas, boxes, confidence, valid = make_batch(own_boxes)
    before = build()(deltas, boxes, confidence, valid)
    emptied = boxes.masked_fill(~(valid if own_boxes else valid[:, :1]).unsqueeze(-1), filling)
    if not own_boxes:
        emptied[2] = boxes[2]  # a slot is empty for the image, not for a phrase that is not there
    deltas = deltas.detach().masked_fill(~valid.unsqueeze(-1), filling).requires_grad_()
    found = build()(deltas, emptied, confidence, valid)
    torch.testing.assert_close(found, before)
    found.sum().backward()
    assert deltas.grad.isfinite().all()


def test_boxes_of_no_size_are_nobodys_candidates():
    flat = (5, 5, 5, 40)
    for rows in ([(0.9, 0.1, 0.2)], [(0.1, 0.9, 0.3)]):
        assert run([flat, NEAR[0], flat], rows, include_self=True) == 0


@pytest.mark.parametrize('detach_boxes', [True, False])
def test_gradients_reach_offsets_and_only_on_request_boxes(detach_boxes):
    """A15: without detaching, the box and its teacher are both moved; scores never."""
    boxes = torch.tensor([[[NEAR[0], NEAR[1], NEAR[3], (0, 0, 0, 0)]]]).float().requires_grad_()
    confidence = torch.tensor([[[0.6, 0.2, 0.1, 0.1]]], requires_grad=True)
    deltas = torch.zeros(1, 1, 4, 4, requires_grad=True)
    valid = torch.ones(1, 1, 4, dtype=torch.bool)
    build(detach_boxes=detach_boxes)(deltas, boxes, confidence, valid).sum().backward()
    # One candidate; the error of dx is 0 - (-1) = 1.
    assert deltas.grad[0, 0].tolist() == [[0] * 4, [0.25, 0, 0, 0], [0] * 4, [0] * 4]
    assert confidence.grad is None
    if detach_boxes:
        assert boxes.grad is None
    else:
        moved = boxes.grad[0, 0].ne(0).any(1).tolist()
        assert moved == [True, True, False, False] and boxes.grad.isfinite().all()


def test_mixed_precision():
    deltas, boxes, confidence, valid = make_batch(False)
    expected = build()(deltas, boxes, confidence, valid)
    with torch.autocast('cpu', torch.bfloat16):
        found = build()(deltas.bfloat16(), boxes, confidence, valid)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)


def test_no_phrases_and_unknown_norm():
    empty = torch.zeros(2, 0, 3)
    found = build()(torch.zeros(2, 0, 3, 4), torch.zeros(2, 1, 3, 4), empty, empty.bool())
    assert found.tolist() == [0, 0]
    with pytest.raises(ValueError, match='candidates'):
        build(norm='mean')


def test_order_of_phrases_and_boxes_does_not_matter():
    rows = [(0.6, 0.2, 0.1, 0.1), (0.1, 0.3, 0.35, 0.25)]
    expected = run(NEAR, rows)
    for order in itertools.islice(itertools.permutations(range(4)), 0, 24, 5):
        shuffled = [[row[i] for i in order] for row in reversed(rows)]
        assert run([NEAR[i] for i in order], shuffled) == pytest.approx(expected)
