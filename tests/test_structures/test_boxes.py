import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from mmvg.structures import (
    canvas_to_image,
    canvas_to_normalised,
    describe_places,
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


def test_places_of_boxes():
    """A4, A39: relative to the image; the grid is what RoIAlign makes of a map of coordinates."""
    boxes = torch.tensor([[[4.0, 6, 30, 20], [0, 0, 40, 32]], [[10.0, 8, 12, 24], [1, 2, 3, 4]]])
    sizes = torch.tensor([[32, 40], [64, 48]])  # height, width
    found = describe_places(boxes, sizes, 'box5')
    assert found[0, 0].tolist() == pytest.approx(
        [4 / 40, 6 / 32, 30 / 40, 20 / 32, 26 * 14 / (40 * 32)]
    )
    assert found[0, 1].tolist() == [0, 0, 1, 1, 1]
    found = describe_places(boxes, sizes, 'grid98')
    for b, (height, width) in enumerate(sizes.tolist()):
        rows, columns = ((2 * torch.arange(n) + 1) / n - 1 for n in (height, width))
        maps = torch.stack(torch.meshgrid(rows, columns, indexing='ij'))
        aligned = roi_align(maps[None], [boxes[b]], 7, sampling_ratio=2, aligned=True)
        inside = slice(None) if b else slice(1)  # RoIAlign clamps at the border
        torch.testing.assert_close(found[b, inside], aligned.flatten(1)[inside])
