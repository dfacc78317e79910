import random

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from PIL import Image, ImageEnhance, ImageStat

from .pillow_image import bgr_to_pillow, pillow_to_bgr


@TRANSFORMS.register_module()
class PillowColorJitter(BaseTransform):
    """Change brightness, contrast and saturation in random order (TransVG, spec 1.3).

    As Pillow's enhancers on uint8 pictures, whose rounding mmdet's ``PhotoMetricDistortion``
    (float, through HSV) does not reproduce.

    Args:
        brightness (float): The factor is uniform in [1 - brightness, 1 + brightness]; between 0 and
            1.
        contrast (float): Alike.
        saturation (float): Alike.
        prob (float): Probability that the image is changed at all.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        prob: float = 0.8,
    ) -> None:
        self.strengths = (brightness, contrast, saturation)
        if not all(0 <= s <= 1 for s in self.strengths):
            raise ValueError(
                'brightness, contrast and saturation must lie between 0 and 1, got '
                f'{self.strengths}'
            )
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Change the colours of img."""
        if random.random() >= self.prob:
            return results
        changes = (_brightness, _contrast, _saturation)
        picture = bgr_to_pillow(results['img'])
        for i in np.random.permutation(3):
            factor = random.uniform(1 - self.strengths[i], 1 + self.strengths[i])
            picture = changes[i](picture, factor)
        results['img'] = pillow_to_bgr(picture)
        return results

    def __repr__(self) -> str:
        brightness, contrast, saturation = self.strengths
        return (
            f'{type(self).__name__}(brightness={brightness}, contrast={contrast}, '
            f'saturation={saturation}, prob={self.prob})'
        )


# ImageEnhance blends the whole picture with a second one of a single grey. The result depends on
# the value of a pixel only, so a table of the blended 256 values says the same in half the time.
_RAMP = Image.frombytes('L', (256, 1), bytes(range(256)))


def _away_from(grey: int, picture: Image.Image, factor: float) -> Image.Image:
    table = Image.blend(Image.new('L', _RAMP.size, grey), _RAMP, factor)
    return picture.point(list(table.tobytes()) * 3)


def _brightness(picture: Image.Image, factor: float) -> Image.Image:
    return _away_from(0, picture, factor)


def _contrast(picture: Image.Image, factor: float) -> Image.Image:
    grey = ImageStat.Stat(picture.convert('L')).mean[0]
    return _away_from(int(grey + 0.5), picture, factor)


def _saturation(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Color(picture).enhance(factor)
