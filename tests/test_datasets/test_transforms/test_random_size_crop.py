import random

import pytest
import torch

from mmvg.datasets.transforms import RandomSizeCrop


@pytest.fixture
def window(monkeypatch):
    """Make RandomSizeCrop draw one given window (top, left, height, width)."""

    def fix(*values):
        monkeypatch.setattr(RandomSizeCrop, '_draw', lambda self, img: values)

    return fix


def test_official_check_exchanges_the_axes(make_results, window):
    # Window x 0..384, y 300..684; the centre (200, 500) lies inside it, but 200 < top.
    window(300, 0, 384, 384)
    box = ((150.0, 450.0, 250.0, 550.0),)
    whole = RandomSizeCrop(check='official')(make_results(800, 500, box))
    assert whole['img_shape'] == (800, 500) and 'homography_matrix' not in whole
    cropped = RandomSizeCrop(check='fixed')(make_results(800, 500, box))
    assert cropped['img_shape'] == (384, 384)
    assert cropped['gt_bboxes'].tensor.tolist() == [[150, 150, 250, 250]]


def test_official_check_has_no_upper_bound_and_may_lose_the_target(make_results, window):
    window(0, 0, 384, 384)
    box = ((500.0, 400.0, 600.0, 460.0),)
    lost = RandomSizeCrop(check='official')(make_results(480, 640, box))
    assert lost['img_shape'] == (384, 384)
    assert lost['gt_bboxes'].tensor.tolist() == [[384, 384, 384, 384]]
    whole = RandomSizeCrop(check='fixed')(make_results(480, 640, box))
    assert whole['img_shape'] == (480, 640)


def test_clamps_boxes_and_cuts_the_pixels(make_results, window):
    window(50, 100, 384, 400)
    results = make_results(480, 640, ((60.0, 20.0, 700.0, 300.0),))
    original = results['img'].copy()
    out = RandomSizeCrop()(results)
    assert out['gt_bboxes'].tensor.tolist() == [[0, 0, 400, 250]]
    assert (out['img'] == original[50:434, 100:500]).all()
    assert out['homography_matrix'].tolist() == [[1, 0, -100], [0, 1, -50], [0, 0, 1]]


@pytest.mark.parametrize('check', ['official', 'fixed'])
def test_every_box_must_pass(make_results, window, check):
    window(200, 200, 384, 384)
    good, bad = (300.0, 300.0, 400.0, 400.0), (10.0, 10.0, 50.0, 50.0)
    assert RandomSizeCrop(check=check)(make_results(600, 640, (good,)))['img_shape'] == (384, 384)
    assert RandomSizeCrop(check=check)(make_results(600, 640, (good, bad)))['img_shape'] == (
        600,
        640,
    )


def test_draws_width_then_height_then_the_corner(make_results):
    random.seed(3)
    torch.manual_seed(3)
    width, height = random.randint(384, 600), random.randint(384, 500)
    top = torch.randint(0, 500 - height + 1, size=(1,)).item()
    left = torch.randint(0, 700 - width + 1, size=(1,)).item()
    random.seed(3)
    torch.manual_seed(3)
    window = RandomSizeCrop()._draw(make_results(500, 700)['img'])
    assert tuple(window) == (top, left, height, width)


def test_fixed_check_keeps_the_centre_of_the_target(make_results):
    random.seed(0)
    torch.manual_seed(0)
    for _ in range(50):
        out = RandomSizeCrop(check='fixed')(make_results(600, 800, ((600.0, 400.0, 660.0, 440.0),)))
        shift = torch.tensor([out['homography_matrix'][0, 2], out['homography_matrix'][1, 2]])
        x, y = (torch.tensor([630.0, 420.0]) + shift).tolist()
        height, width = out['img_shape']
        assert 0 < x < width and 0 < y < height and 384 <= min(height, width)
        assert max(height, width) <= 600


def test_small_image_and_prediction_without_boxes(make_results):
    results = make_results(200, 300)
    results.pop('gt_bboxes')
    assert RandomSizeCrop()(results)['img_shape'] == (200, 300)


def test_refuses_unknown_check():
    with pytest.raises(ValueError, match='official'):
        RandomSizeCrop(check='none')
