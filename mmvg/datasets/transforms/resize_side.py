import random
from collections.abc import Sequence

import mmcv
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from .affine import record_affine


@TRANSFORMS.register_module()
class ResizeSide(BaseTransform):
    """Resize so that one side gets a given length, the aspect ratio being kept (TransVG, spec 1.3).

    With r = scale / side, the new height and width are ``round(r * h)`` and ``round(r * w)`` while
    boxes are multiplied by the unrounded r; mmdet's ``Resize`` rounds differently and fits both
    sides.

    Args:
        scales (int | Sequence[int]): Length in px; one of several is drawn per image.
        side (str): ``'long'`` or ``'short'``: the side that gets this length.
        backend (str): ``'pillow'`` (antialiased, as the official code) or ``'cv2'`` (faster);
            bilinear.
    """

    def __init__(
        self, scales: int | Sequence[int], side: str = 'long', backend: str = 'pillow'
    ) -> None:
        self.scales = [scales] if isinstance(scales, int) else list(scales)
        if not self.scales or any(s <= 0 for s in self.scales):
            raise ValueError(f'scales must be one or more positive lengths, got {scales!r}')
        if side not in ('long', 'short'):
            raise ValueError(f"side must be 'long' or 'short', got {side!r}")
        self.side = side
        self.backend = backend

    def transform(self, results: dict) -> dict:
        """Resize img and gt_bboxes; update img_shape, scale_factor and homography_matrix."""
        height, width = results['img'].shape[:2]
        side = max(height, width) if self.side == 'long' else min(height, width)
        ratio = random.choice(self.scales) / side
        # A side of less than half a pixel would round to nothing.
        size = max(round(width * ratio), 1), max(round(height * ratio), 1)
        record_affine(results, scale=(ratio, ratio))
        if size != (width, height):  # the same size would give the same pixels
            results['img'] = mmcv.imresize(
                results['img'], size, interpolation='bilinear', backend=self.backend
            )
        results['img_shape'] = results['img'].shape[:2]
        w_scale, h_scale = results.get('scale_factor', (1.0, 1.0))
        results['scale_factor'] = (w_scale * ratio, h_scale * ratio)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].rescale_((ratio, ratio))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scales={self.scales}, side={self.side!r}, '
            f'backend={self.backend!r})'
        )
