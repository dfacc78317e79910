import random

import cv2
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from .affine import record_affine
from .location_words import check_match, swap_left_right


@TRANSFORMS.register_module()
class FlipWithText(BaseTransform):
    """Flip the image sideways and exchange "left" and "right" in its queries (TransVG, spec 1.3).

    mmdet's ``RandomFlip`` leaves the text alone. Flipping twice restores image, boxes and text.

    Args:
        prob (float): Probability of flipping.
        swap (str): ``'substring'`` as the released code, which makes "bright" into "bleft";
            ``'word'`` for words and their compounds (left-hand, leftmost, topright) only.
    """

    def __init__(self, prob: float = 0.5, swap: str = 'substring') -> None:
        self.prob = prob
        self.swap = check_match(swap)

    def transform(self, results: dict) -> dict:
        """Flip img, gt_bboxes and queries; update homography_matrix, flip and flip_direction."""
        if random.random() >= self.prob:
            return results
        height, width = results['img'].shape[:2]
        record_affine(results, scale=(-1.0, 1.0), shift=(width, 0.0))
        results['img'] = cv2.flip(results['img'], 1)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].flip_((height, width))
        results['queries'] = [swap_left_right(q, self.swap) for q in results['queries']]
        results['flip'] = not results.get('flip', False)
        results['flip_direction'] = 'horizontal' if results['flip'] else None
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, swap={self.swap!r})'
