"""The only place where boxes change coordinates.

Three frames exist. *Image*: pixels of the original picture. *Canvas*: pixels of the network input,
after resizing, cropping, flipping and padding. *Normalised*: (cx, cy, w, h) in units of the canvas.
Image and canvas are related by the sample's ``homography_matrix`` (mmdet's key; 3 x 3, image to
canvas).
"""

from collections.abc import Mapping, Sequence

import torch
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import bbox2delta, delta2bbox
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


_DELTA_STDS = (0.1, 0.1, 0.2, 0.2)  # weights 10, 10, 5, 5 of Faster R-CNN


def encode_deltas(bboxes: Tensor, targets: Tensor) -> Tensor:
    """Offsets (dx, dy, dw, dh) that turn boxes into targets, ... x 4 xyxy each (ReIR; spec 2.5)."""
    return bbox2delta(bboxes, targets, stds=_DELTA_STDS)


def apply_deltas(bboxes: Tensor, deltas: Tensor) -> Tensor:
    """Undo :func:`encode_deltas`, ... x 4; a side changes by a factor of 62.5 at most."""
    flat = delta2bbox(
        bboxes.reshape(-1, 4).float(), deltas.reshape(-1, 4).float(), stds=_DELTA_STDS
    )
    return flat.view(deltas.shape)


def clip_to_size(bboxes: Tensor, sizes: Tensor, min_side: float = 0.0) -> Tensor:
    """Clip B x ... x 4 xyxy to images of B x 2 (height, width), keeping sides of ``min_side`` px."""
    limits = sizes.flip(-1).to(bboxes).view(len(sizes), *[1] * (bboxes.ndim - 2), 2)
    start = torch.minimum(bboxes[..., :2].clamp(min=0), (limits - min_side).clamp(min=0))
    end = torch.maximum(torch.minimum(bboxes[..., 2:], limits), start + min_side)
    return torch.cat([start, end], -1)


def describe_places(boxes: Tensor, image_sizes: Tensor, kind: str) -> Tensor:
    """B x R x 4 xyxy and B x 2 (height, width) -> B x R x 5 or 98, in units of the image.

    ``'box5'``: x1, y1, x2, y2 and area. ``'grid98'``: rows, then columns of the centres of 7 x 7 cells,
    from -1 to 1; what RoIAlign makes of a map of coordinates (spec 2.2).
    """
    height, width = image_sizes.to(boxes).view(-1, 2, 1, 1).unbind(1)
    x1, y1, x2, y2 = boxes.split(1, -1)
    x1, x2, y1, y2 = x1 / width, x2 / width, y1 / height, y2 / height
    if kind == 'box5':
        return torch.cat([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)], -1)
    steps = (torch.arange(7, device=boxes.device) + 0.5) / 7
    rows = (2 * (y1 + (y2 - y1) * steps) - 1).unsqueeze(-1).expand(-1, -1, 7, 7)
    columns = (2 * (x1 + (x2 - x1) * steps) - 1).unsqueeze(-2).expand(-1, -1, 7, 7)
    return torch.stack([rows, columns], 2).flatten(2)
