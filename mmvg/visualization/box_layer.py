"""Boxes on pictures: solid or dashed, with numbers that do not cover each other."""

from collections.abc import Sequence
from itertools import chain, product

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colours import Colour, ink_on


def draw_boxes(
    canvas: Image.Image,
    bboxes: np.ndarray | None,
    gt_bboxes: np.ndarray | None,
    font: ImageFont.FreeTypeFont,
    colours: Sequence[Colour],
) -> None:
    """Boxes and their numbers, if there are several: predicted ones solid, true ones dashed.

    Args:
        canvas (Image): Is drawn on.
        bboxes, gt_bboxes (np.ndarray, optional): K x 4 xyxy in px of the canvas.
        font (FreeTypeFont): Of the numbers, which stand at predicted boxes, if there are any.
        colours (Sequence): RGB, K.
    """
    draw = ImageDraw.Draw(canvas)
    width = max(2, round(max(canvas.size) / 250))
    for boxes, dashed in ((gt_bboxes, True), (bboxes, False)):
        for i, box in enumerate(boxes if boxes is not None else ()):
            if dashed:
                _dashed_rectangle(draw, visible(box, canvas), colours[i], width)
            else:
                draw.rectangle(visible(box, canvas), outline=colours[i], width=width)
    tagged = bboxes if bboxes is not None else gt_bboxes
    if tagged is not None and len(tagged) > 1:
        _draw_tags(canvas, tagged[:, :2], font, colours)


def visible(box: np.ndarray, canvas: Image.Image) -> tuple[float, float, float, float]:
    """Edges at or beyond the border stay visible; Pillow refuses x2 < x1."""
    limits = np.array([canvas.width - 1, canvas.height - 1] * 2)
    x1, y1, x2, y2 = np.clip(box, 0, limits).tolist()
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _draw_tags(
    canvas: Image.Image,
    corners: np.ndarray,
    font: ImageFont.FreeTypeFont,
    colours: Sequence[Colour],
) -> None:
    """Number the boxes at their top left corners; tags of boxes that coincide stand side by side."""
    draw = ImageDraw.Draw(canvas)
    taken = []
    for i, corner in enumerate(corners):
        tag = str(i + 1)
        size = np.array(font.getbbox(tag)[2:]) + (4, 3)
        position = _free_place(corner, size, taken, np.array(canvas.size) - size)
        taken.append(position)
        draw.rectangle((*position, *(position + size)), fill=colours[i])
        draw.text(tuple(position + (2, 1)), tag, font=font, fill=ink_on(colours[i]))


def _free_place(
    corner: np.ndarray, size: np.ndarray, taken: Sequence[np.ndarray], limits: np.ndarray
) -> np.ndarray:
    """Where a tag covers no other: at the corner, right of it, in rows below and above, or left."""
    corner = np.clip(corner, 0, np.maximum(limits, 0))
    rows = np.arange(corner[1] % size[1], limits[1] + 1, size[1])
    rows = sorted(rows, key=lambda y: (abs(y - corner[1]), -y))
    right = np.arange(corner[0], limits[0] + 1, size[0])
    left = np.arange(corner[0] - size[0], 0, -size[0])
    for place in map(
        np.array, chain(product(right, rows[:1]), product(right, rows), product(left, rows))
    ):
        if not any((np.abs(place - other) < size).all() for other in taken):
            return place
    return corner


def _dashed_rectangle(
    draw: ImageDraw.ImageDraw, box: Sequence[float], colour: Colour, width: int
) -> None:
    x1, y1, x2, y2 = box
    dash = 4 * width
    for start in np.arange(x1, x2, 2 * dash):
        for y in (y1, y2):
            draw.line((start, y, min(start + dash, x2), y), fill=colour, width=width)
    for start in np.arange(y1, y2, 2 * dash):
        for x in (x1, x2):
            draw.line((x, start, x, min(start + dash, y2)), fill=colour, width=width)
