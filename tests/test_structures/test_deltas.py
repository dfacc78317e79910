"""Offsets between boxes, and clipping (spec reir 2.5, 8.3, A40)."""

import math

import pytest
import torch

from mmvg.structures import apply_deltas, clip_to_size, encode_deltas


def test_recorded_values():
    box, deltas = torch.tensor([[10.0, 20, 110, 70]]), torch.tensor([[1.0, -2, 0.5, 1]])
    expected = [14.74145, 4.46493, 125.25854, 65.53506]
    assert apply_deltas(box, deltas)[0].tolist() == pytest.approx(expected, abs=1e-4)
    found = encode_deltas(torch.tensor([[10.0, 0, 110, 100]]), torch.tensor([[0.0, 0, 100, 120]]))
    assert found[0].tolist() == pytest.approx([-1, 1, 0, 0.911608], abs=1e-6)


def make_boxes(*shape):
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(*shape, 2, generator=generator) * 100
    return torch.cat([start, start + 5 + torch.rand(*shape, 2, generator=generator) * 90], -1)


def test_closed_form_and_round_trip_with_any_leading_dimensions():
    boxes, targets = make_boxes(2, 3, 4), make_boxes(2, 3, 5)[:, :, 1:]
    deltas = encode_deltas(boxes, targets)
    size, goal = boxes[..., 2:] - boxes[..., :2], targets[..., 2:] - targets[..., :2]
    shift = (targets[..., :2] + targets[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2
    expected = torch.cat([10 * shift / size, 5 * (goal / size).log()], -1)
    torch.testing.assert_close(deltas, expected)
    torch.testing.assert_close(apply_deltas(boxes, deltas), targets, atol=1e-3, rtol=0)
    assert apply_deltas(boxes[:, :0], deltas[:, :0]).shape == (2, 0, 4, 4)


def test_no_offset_is_the_same_box():
    boxes = make_boxes(6)
    assert not encode_deltas(boxes, boxes).any()
    torch.testing.assert_close(apply_deltas(boxes, torch.zeros(6, 4)), boxes)


def test_sides_change_by_a_limited_factor():
    box = torch.tensor([[0.0, 0, 100, 100]])
    sides = [
        apply_deltas(box, torch.tensor([[0.0, 0, size, 0]]))[0, [0, 2]].diff().item()
        for size in (5 * math.log(2), 1e3, -1e3)
    ]
    assert sides == pytest.approx([200, 100 * 62.5, 100 / 62.5], rel=1e-4)


def test_gradients_reach_boxes_and_offsets():
    boxes, deltas = make_boxes(3).requires_grad_(), torch.zeros(3, 4, requires_grad=True)
    apply_deltas(boxes, deltas).sum().backward()
    size = boxes[:, 2:].detach() - boxes[:, :2].detach()
    torch.testing.assert_close(boxes.grad, torch.ones(3, 4))
    # x1 + x2 moves by 2 w dx / 10; a change of the width leaves it.
    expected = torch.cat([2 * size / 10, torch.zeros(3, 2)], 1)
    torch.testing.assert_close(deltas.grad, expected, atol=1e-5, rtol=0)


def test_clip_to_the_size_of_each_image():
    boxes = torch.tensor([[-5.0, 10, 70, 90], [20, -9, 30, 200]])
    sizes = torch.tensor([[80, 60], [100, 25]])  # height, width
    found = clip_to_size(boxes.repeat(2, 1, 1), sizes)
    assert found.tolist() == [
        [[0, 10, 60, 80], [20, 0, 30, 80]],
        [[0, 10, 25, 90], [20, 0, 25, 100]],
    ]
    nested = clip_to_size(boxes.repeat(2, 3, 1, 1), sizes)
    torch.testing.assert_close(nested, found.unsqueeze(1).expand(-1, 3, -1, -1))


@pytest.mark.parametrize('min_side', [0.0, 1.0, 8.0])
def test_clipping_keeps_a_side_and_the_image(min_side):
    """Boxes outside, on the border, and of no size."""
    boxes = torch.tensor(
        [[-50.0, -50, -20, -10], [90, 70, 99, 99], [60, 80, 60, 80], [30, 30, 30, 30]]
    )
    found = clip_to_size(boxes[None], torch.tensor([[80, 60]]), min_side)[0]
    assert (found[:, 2:] - found[:, :2]).min() >= min_side
    assert found.min() >= 0 and (found[:, 2:] <= torch.tensor([60, 80])).all()


def test_an_image_smaller_than_the_side_gives_an_ordered_box():
    found = clip_to_size(torch.tensor([[[5.0, 5, 9, 9]]]), torch.tensor([[3, 2]]), 4.0)
    assert found.tolist() == [[[0, 0, 4, 4]]]
