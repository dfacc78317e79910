import random

import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from torchvision.transforms import RandomCrop

from .affine import record_affine


@TRANSFORMS.register_module()
class RandomSizeCrop(BaseTransform):
    """Crop a random window that keeps the centre of every box (TransVG, spec 1.3).

    The boxes are clamped to the window. If no window of ``attempts`` passes the check, the image
    stays whole.

    Args:
        min_size (int): Smallest side of the window in px; on a smaller image, the image's side.
        max_size (int): Largest side in px.
        attempts (int): Number of windows drawn.
        check (str): ``'official'`` is the check of the released code, which compares the centre's x
            with the window's *top* and y with its *left* and has no upper bound, so that the target
            may get lost. ``'fixed'`` demands that the centre lies inside the window.
    """

    def __init__(
        self, min_size: int = 384, max_size: int = 600, attempts: int = 20, check: str = 'official'
    ) -> None:
        if not 0 < min_size <= max_size:
            raise ValueError(f'need 0 < min_size <= max_size, got {min_size} and {max_size}')
        if check not in ('official', 'fixed'):
            raise ValueError(f"check must be 'official' or 'fixed', got {check!r}")
        self.min_size = min_size
        self.max_size = max_size
        self.attempts = attempts
        self.check = check

    def transform(self, results: dict) -> dict:
        """Crop img and gt_bboxes; update img_shape and homography_matrix."""
        for _ in range(self.attempts):
            top, left, height, width = self._draw(results['img'])
            if not self._keeps_targets(results, top, left, height, width):
                continue
            record_affine(results, shift=(-left, -top))
            results['img'] = results['img'][top : top + height, left : left + width]
            results['img_shape'] = (height, width)
            if results.get('gt_bboxes') is not None:
                results['gt_bboxes'].translate_((-left, -top))
                results['gt_bboxes'].clip_((height, width))
            break
        return results

    def _draw(self, img) -> tuple[int, int, int, int]:
        height, width = img.shape[:2]
        crop_w = random.randint(min(self.min_size, width), min(width, self.max_size))
        crop_h = random.randint(min(self.min_size, height), min(height, self.max_size))
        shape_only = torch.empty(1, height, width, device='meta')
        return RandomCrop.get_params(shape_only, (crop_h, crop_w))

    def _keeps_targets(self, results: dict, top: int, left: int, height: int, width: int) -> bool:
        if results.get('gt_bboxes') is None:
            return True
        x, y = results['gt_bboxes'].centers.unbind(-1)
        if self.check == 'official':
            inside = (x > top) & (y > left)
        else:
            inside = (x > left) & (x < left + width) & (y > top) & (y < top + height)
        return bool(inside.all())

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(min_size={self.min_size}, max_size={self.max_size}, '
            f'attempts={self.attempts}, check={self.check!r})'
        )
