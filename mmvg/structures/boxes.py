"""The only place where boxes change coordinates.

Three frames exist. *Image*: pixels of the original picture. *Canvas*: pixels of the network input,
after resizing, cropping, flipping and padding. *Normalised*: (cx, cy, w, h) in units of the canvas.
Image and canvas are related by the sample's ``homography_matrix`` (mmdet's key; 3 x 3, image to
canvas).
"""

from collections.abc import Mapping, Sequence

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from torch import Tensor


def _axes(metainfo: Mapping) -> tuple[float, float, float, float]:
    """Scale and shift of x and of y; grounding transforms never rotate or shear."""
    matrix = metainfo.get('homography_matrix')
    if matrix is None:
        return 1.0, 1.0, 0.0, 0.0
    if matrix[0][1] or matrix[1][0] or matrix[2][0] or matrix[2][1]:
        raise ValueError(
            f'image {metainfo.get("img_path")}: the pipeline rotated or sheared the picture '
            '(homography_matrix is not axis-aligned), so boxes cannot be mapped back; '
            'remove that transform'
        )
    norm = float(matrix[2][2])
    return (
        float(matrix[0][0]) / norm,
        float(matrix[1][1]) / norm,
        float(matrix[0][2]) / norm,
        float(matrix[1][2]) / norm,
    )


def _ordered(bboxes: Tensor) -> Tensor:
    """Restore x1 <= x2 and y1 <= y2, which a flip exchanges."""
    return torch.cat(
        [torch.minimum(bboxes[:, :2], bboxes[:, 2:]), torch.maximum(bboxes[:, :2], bboxes[:, 2:])],
        dim=1,
    )


def image_to_canvas(bboxes: Tensor, metainfo: Mapping) -> Tensor:
    """K x 4 xyxy from pixels of the original image to pixels of the network input."""
    sx, sy, tx, ty = _axes(metainfo)
    return _ordered(
        bboxes * bboxes.new_tensor([sx, sy, sx, sy]) + bboxes.new_tensor([tx, ty, tx, ty])
    )


def canvas_to_image(bboxes: Tensor, metainfo: Mapping) -> Tensor:
    """K x 4 xyxy from pixels of the network input to pixels of the original image, not clipped."""
    sx, sy, tx, ty = _axes(metainfo)
    return _ordered(
        (bboxes - bboxes.new_tensor([tx, ty, tx, ty])) / bboxes.new_tensor([sx, sy, sx, sy])
    )


def normalised_to_canvas(bboxes: Tensor, canvas_shape: Sequence[int]) -> Tensor:
    """Q x 4 normalised cxcywh to xyxy in pixels of a canvas of shape (h, w)."""
    h, w = canvas_shape
    return bbox_cxcywh_to_xyxy(bboxes) * bboxes.new_tensor([w, h, w, h])


def canvas_to_normalised(bboxes: Tensor, canvas_shape: Sequence[int]) -> Tensor:
    """Q x 4 xyxy in pixels of a canvas of shape (h, w) to normalised cxcywh."""
    h, w = canvas_shape
    return bbox_xyxy_to_cxcywh(bboxes / bboxes.new_tensor([w, h, w, h]))
