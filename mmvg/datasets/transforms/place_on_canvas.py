import random

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from .affine import record_affine


@TRANSFORMS.register_module()
class PlaceOnCanvas(BaseTransform):
    """Place the image on a larger black canvas and note where it lies (TransVG, spec 1.3).

    mmdet's ``Pad`` knows only the top left corner. ``content_box`` tells the data preprocessor
    which pixels are padding; it sets them to zero after normalisation, so their colour here does
    not matter.

    Args:
        size (int | tuple[int, int]): Canvas (height, width) in px, or the side of a square.
        position (str): ``'centre'`` (rounded to the top left) or ``'random'`` (uniform; training).

    Raises:
        ValueError: If an image is larger than the canvas.
    """

    def __init__(self, size: int | tuple[int, int] = 640, position: str = 'centre') -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        if position not in ('centre', 'random'):
            raise ValueError(f"position must be 'centre' or 'random', got {position!r}")
        self.position = position

    def transform(self, results: dict) -> dict:
        """Set img, img_shape, content_box (x1, y1, x2, y2 px); shift gt_bboxes and homography."""
        height, width = results['img'].shape[:2]
        free_y, free_x = self.size[0] - height, self.size[1] - width
        if free_y < 0 or free_x < 0:
            raise ValueError(
                f'image {results.get("img_path")} is {width} x {height} px here and does not '
                f'fit the canvas of {self.size[1]} x {self.size[0]}; put '
                f'ResizeSide(scales={min(self.size)}) before PlaceOnCanvas, or enlarge the canvas'
            )
        if self.position == 'random':
            top, left = random.randint(0, free_y), random.randint(0, free_x)
        else:
            top, left = free_y // 2, free_x // 2
        record_affine(results, shift=(left, top))
        canvas = np.zeros((*self.size, results['img'].shape[2]), dtype=results['img'].dtype)
        canvas[top : top + height, left : left + width] = results['img']
        results['img'] = canvas
        results['img_shape'] = self.size
        results['content_box'] = (left, top, left + width, top + height)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].translate_((left, top))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, position={self.position!r})'
