import random

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from mmvg.datasets.transforms import PillowColorJitter, PillowGaussianBlur


@pytest.mark.parametrize('strength', [0.4, 1.0])
@pytest.mark.parametrize('seed', range(6))
def test_jitter_equals_the_enhancers(make_results, seed, strength):
    results = make_results(64, 80)
    picture = Image.fromarray(results['img'][..., ::-1])
    random.seed(seed)
    np.random.seed(seed)
    if random.random() < 0.8:
        for i in np.random.permutation(3):
            enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[i]
            picture = enhancer(picture).enhance(random.uniform(1 - strength, 1 + strength))
    random.seed(seed)
    np.random.seed(seed)
    out = PillowColorJitter(strength, strength, strength)(results)
    np.testing.assert_array_equal(out['img'], np.asarray(picture)[..., ::-1])
    assert out['img'].flags.c_contiguous


def test_jitter_can_be_off(make_results):
    before = make_results(32, 32)['img']
    np.testing.assert_array_equal(PillowColorJitter(prob=0)(make_results(32, 32))['img'], before)
    still = PillowColorJitter(0, 0, 0, prob=1)(make_results(32, 32))['img']
    np.testing.assert_array_equal(still, before)


def test_jitter_refuses_factors_below_zero():
    with pytest.raises(ValueError, match='between 0 and 1'):
        PillowColorJitter(brightness=1.5)


def test_blur_equals_pillow(make_results):
    results = make_results(64, 80)
    random.seed(2)
    random.random()
    radius = random.uniform(0.1, 2.0)
    expected = Image.fromarray(results['img'][..., ::-1]).filter(ImageFilter.GaussianBlur(radius))
    random.seed(2)
    out = PillowGaussianBlur(prob=1.0)(results)
    np.testing.assert_array_equal(out['img'], np.asarray(expected)[..., ::-1])
    before = make_results(64, 80)['img']
    np.testing.assert_array_equal(PillowGaussianBlur(prob=0)(make_results(64, 80))['img'], before)
