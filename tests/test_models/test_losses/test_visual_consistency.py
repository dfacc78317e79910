"""Visual consistency of KAC Net by value (spec reir 6.1, row ``Kac``)."""

import pytest
import torch
from mmdet.registry import MODELS

BOXES = torch.tensor([[[[0.0, 0.0, 100.0, 50.0], [50.0, 25.0, 100.0, 50.0]]]])  # 1 x 1 x 2 x 4
SIZE = torch.tensor([[50, 100]])  # height, width


def run(places, attention, **options):
    loss = MODELS.build(dict(type='VisualConsistencyLoss', **options))
    return loss(places, BOXES, SIZE, attention)


def test_places_are_in_units_of_the_picture_less_a_half():
    places = torch.tensor([[[[-0.5, -0.5, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]]]])
    assert run(places, torch.tensor([[[0.3, 0.7]]])).tolist() == [0]


def test_errors_are_averaged_over_corners_weighted_and_summed_over_pairs():
    """Errors of 1 in one of four coordinates, of 2 in all four; smooth L1 with beta 1."""
    places = torch.tensor([[[[0.5, -0.5, 0.5, 0.5], [2.0, 2.0, 2.5, 2.5]]] * 3])
    attention = torch.tensor([[[1.0, 0.0], [0.25, 0.75], [0.0, 0.0]]])
    first, second = 0.5 / 4, 1.5
    expected = first + (0.25 * first + 0.75 * second)
    assert run(places, attention, loss_weight=1.0).item() == pytest.approx(expected)
    assert run(places, attention).item() == pytest.approx(0.1 * expected)


def test_attention_learns_to_avoid_boxes_whose_place_cannot_be_told():
    """The gradient of a weight is the error of its pair, as in the release."""
    places = torch.tensor([[[[0.5, -0.5, 0.5, 0.5], [2.0, 2.0, 2.5, 2.5]]]], requires_grad=True)
    attention = torch.tensor([[[0.5, 0.5]]], requires_grad=True)
    run(places, attention, loss_weight=1.0).sum().backward()
    torch.testing.assert_close(attention.grad, torch.tensor([[[0.125, 1.5]]]))
    # d smooth L1 = 1 beyond beta, over four coordinates, times the weight.
    torch.testing.assert_close(places.grad[0, 0, 1], torch.full((4,), 0.125))
