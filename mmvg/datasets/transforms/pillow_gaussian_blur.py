import random

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from PIL import ImageFilter

from .pillow_image import bgr_to_pillow, pillow_to_bgr


@TRANSFORMS.register_module()
class PillowGaussianBlur(BaseTransform):
    """Blur the image with Pillow's Gaussian filter (TransVG's option; no official recipe uses it).

    Args:
        prob (float): Probability of blurring.
        radius (tuple[float, float]): Range of the radius in px.
    """

    def __init__(self, prob: float, radius: tuple[float, float] = (0.1, 2.0)) -> None:
        self.prob = prob
        self.radius = tuple(radius)

    def transform(self, results: dict) -> dict:
        """Blur img."""
        if random.random() < self.prob:
            blur = ImageFilter.GaussianBlur(random.uniform(*self.radius))
            results['img'] = pillow_to_bgr(bgr_to_pillow(results['img']).filter(blur))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, radius={self.radius})'
