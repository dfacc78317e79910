import random

import mmcv
import numpy as np
import pytest
import torch
from PIL import Image

from mmvg.datasets.transforms import ResizeSide


@pytest.mark.parametrize('height, width', [(480, 640), (427, 640), (333, 500), (640, 427)])
def test_equals_pillow_and_keeps_the_ratio_unrounded(make_results, height, width):
    results = make_results(height, width)
    picture = Image.fromarray(results['img'][..., ::-1])
    boxes = results['gt_bboxes'].tensor.clone()
    out = ResizeSide(448)(results)
    ratio = 448 / max(height, width)
    size = round(width * ratio), round(height * ratio)
    expected = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))[..., ::-1]
    np.testing.assert_array_equal(out['img'], expected)
    assert out['img_shape'] == (size[1], size[0])
    assert out['scale_factor'] == (ratio, ratio)
    torch.testing.assert_close(out['gt_bboxes'].tensor, boxes * ratio)


def test_short_side_and_choice_of_scales(make_results):
    sides = {
        min(ResizeSide([100, 150, 200], side='short')(make_results())['img_shape'])
        for _ in range(40)
    }
    assert sides == {100, 150, 200}


def test_choice_follows_the_global_generator(make_results):
    scales = [640, 608, 576, 544, 512, 480, 448]
    random.seed(7)
    expected = [random.choice(scales) for _ in range(5)]
    random.seed(7)
    assert [max(ResizeSide(scales)(make_results())['img_shape']) for _ in range(5)] == expected


def test_scale_factors_accumulate(make_results):
    out = ResizeSide(400)(ResizeSide(320, side='short')(make_results()))
    assert out['scale_factor'] == pytest.approx((400 / 640, 400 / 640), rel=1e-3)
    np.testing.assert_allclose(np.diag(out['homography_matrix'])[:2], out['scale_factor'])


@pytest.mark.parametrize('size', [200, 641, 1023, 2000])
def test_long_side_is_met_exactly(make_results, size):
    out = ResizeSide(640, backend='cv2')(make_results(300, size))
    assert max(out['img_shape']) == 640


@pytest.mark.parametrize('bad', [dict(scales=[]), dict(scales=0), dict(scales=8, side='width')])
def test_refuses_senseless_settings(bad):
    with pytest.raises(ValueError):
        ResizeSide(**bad)


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_same_size_leaves_the_pixels(make_results, backend):
    results = make_results(480, 640)
    resized = mmcv.imresize(results['img'], (640, 480), backend=backend)
    np.testing.assert_array_equal(ResizeSide(640, backend=backend)(results)['img'], resized)
