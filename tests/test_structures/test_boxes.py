import numpy as np
import pytest
import torch

from mmvg.structures import (
    canvas_to_image,
    canvas_to_normalised,
    image_to_canvas,
    normalised_to_canvas,
)

BOXES = torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 5.0, 5.0]])


def test_without_a_matrix_the_canvas_is_the_image():
    assert torch.equal(canvas_to_image(BOXES, {}), BOXES)
    assert torch.equal(image_to_canvas(BOXES, {}), BOXES)


def test_resize_and_shift_have_the_closed_form():
    meta = dict(homography_matrix=np.array([[2.0, 0, 7], [0, 0.5, 3], [0, 0, 1]]))
    expected = torch.tensor([[27.0, 13.0, 67.0, 33.0], [7.0, 3.0, 17.0, 5.5]])
    assert torch.allclose(image_to_canvas(BOXES, meta), expected)
    assert torch.allclose(canvas_to_image(expected, meta), BOXES)


def test_flipped_boxes_stay_ordered_and_return():
    meta = dict(homography_matrix=np.array([[-1.0, 0, 100], [0, 1, 0], [0, 0, 1]]))
    flipped = image_to_canvas(BOXES, meta)
    assert flipped[0].tolist() == [70.0, 20.0, 90.0, 60.0]
    assert torch.equal(canvas_to_image(flipped, meta), BOXES)


def test_rotation_is_refused():
    meta = dict(homography_matrix=np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]), img_path='a.jpg')
    with pytest.raises(ValueError, match='a.jpg.*rotated'):
        canvas_to_image(BOXES, meta)


def test_normalised_round_trip_on_a_rectangular_canvas():
    normalised = canvas_to_normalised(BOXES, (80, 40))
    assert normalised[0].tolist() == [0.5, 0.5, 0.5, 0.5]
    assert torch.allclose(normalised_to_canvas(normalised, (80, 40)), BOXES, atol=1e-5)
