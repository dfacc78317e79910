"""Pictures of grounded queries: boxes on the image, query texts in a legend below it."""

import colorsys
import functools
import os.path as osp
from collections.abc import Sequence

import matplotlib
import mmcv
import numpy as np
import torch
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.dist import master_only
from PIL import Image, ImageDraw, ImageFont
from torchvision.ops import box_iou

from mmvg.structures.boxes import canvas_to_image

_MIN_SIDE = 320  # px: smaller pictures are enlarged so that boxes and tags can be told apart
_MARGIN = 6
_FRAME_COLOUR = (255, 255, 255)
_TEXT_COLOUR = (235, 235, 235)
_PAPER_COLOUR = (32, 32, 32)

Colour = tuple[int, int, int]


def query_colour(index: int) -> Colour:
    """RGB colour of query ``index``: hues a golden ratio apart, distinct for any K."""
    rgb = colorsys.hsv_to_rgb((0.33 + index * 0.618034) % 1.0, 0.85, 1.0)
    return tuple(round(255 * c) for c in rgb)


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib (a dependency of mmengine) ships DejaVu Sans: Latin, Greek, Cyrillic, Arabic and
    # more. A character that it lacks is drawn as an empty box, never as an error.
    return ImageFont.truetype(
        osp.join(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'), size
    )


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


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break ``text`` into lines of at most ``width`` px, inside a word where it has no space."""
    lines = ['']
    for word in text.split():
        candidate = f'{lines[-1]} {word}'.strip()
        if font.getlength(candidate) <= width:
            lines[-1] = candidate
            continue
        if lines[-1]:
            lines.append('')
        for char in word:
            if lines[-1] and font.getlength(lines[-1] + char) > width:
                lines.append('')
            lines[-1] += char
    return lines


def _draw_boxes(
    canvas: Image.Image,
    bboxes: np.ndarray | None,
    gt_bboxes: np.ndarray | None,
    font: ImageFont.FreeTypeFont,
) -> None:
    draw = ImageDraw.Draw(canvas)
    width = max(2, round(max(canvas.size) / 250))
    limits = np.array([canvas.width - 1, canvas.height - 1] * 2)
    for boxes, dashed in ((gt_bboxes, True), (bboxes, False)):
        for i, box in enumerate(boxes if boxes is not None else ()):
            # Edges at or beyond the border stay visible; Pillow refuses x2 < x1.
            x1, y1, x2, y2 = np.clip(box, 0, limits).tolist()
            box = (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))
            if dashed:
                _dashed_rectangle(draw, box, query_colour(i), width)
            else:
                draw.rectangle(box, outline=query_colour(i), width=width)
    tagged = bboxes if bboxes is not None else gt_bboxes
    if tagged is not None and len(tagged) > 1:
        _draw_tags(canvas, tagged[:, :2], font)


def _draw_tags(canvas: Image.Image, corners: np.ndarray, font: ImageFont.FreeTypeFont) -> None:
    """Number the boxes at their top left corners; tags of boxes that coincide stand in a row."""
    draw = ImageDraw.Draw(canvas)
    taken = []
    for i, corner in enumerate(corners):
        tag = str(i + 1)
        size = np.array(font.getbbox(tag)[2:]) + (4, 3)
        position = np.clip(corner, 0, np.maximum(np.array(canvas.size) - size, 0))
        while any((np.abs(position - other) < size).all() for other in taken):
            position = position + (size[0], 0)
        taken.append(position)
        draw.rectangle((*position, *(position + size)), fill=query_colour(i))
        draw.text(tuple(position + (2, 1)), tag, font=font, fill=(0, 0, 0))


def _legend(
    width: int, queries: Sequence[str], notes: Sequence[str], font: ImageFont.FreeTypeFont, key: str
) -> Image.Image:
    """Strip with the colour, number and text of every query, then the line ``key``."""
    line_height = sum(font.getmetrics()) + 2
    swatch = line_height - 6
    indent = swatch + 2 * _MARGIN
    entries = []
    for i, (query, note) in enumerate(zip(queries, notes, strict=True)):
        text = f'{i + 1}. {query}' if len(queries) > 1 else query
        entries.append((i, _wrap(f'{text}  {note}', font, width - indent - _MARGIN)))
    if key:
        entries.append((None, _wrap(key, font, width - 2 * _MARGIN)))
    num_lines = sum(len(lines) for _, lines in entries)
    strip = Image.new('RGB', (width, num_lines * line_height + 2 * _MARGIN), _PAPER_COLOUR)
    draw = ImageDraw.Draw(strip)
    y = _MARGIN
    for i, lines in entries:
        if i is not None:
            draw.rectangle((_MARGIN, y + 3, _MARGIN + swatch, y + 3 + swatch), fill=query_colour(i))
        for line in lines:
            draw.text((indent if i is not None else _MARGIN, y), line, font=font, fill=_TEXT_COLOUR)
            y += line_height
    return strip


def draw_grounding(
    image: np.ndarray,
    queries: Sequence[str],
    bboxes: np.ndarray | None = None,
    gt_bboxes: np.ndarray | None = None,
    frame: Sequence[float] | None = None,
    caption: str = '',
) -> np.ndarray:
    """One picture of K queries: image with boxes on top, a legend with the query texts below.

    Args:
        image (np.ndarray): H x W x 3 uint8 RGB. Below 320 px on its long side it is enlarged by a
            whole factor.
        queries (Sequence[str]): K texts, any script.
        bboxes (np.ndarray, optional): K x 4 predicted xyxy boxes in px of ``image``; solid lines.
        gt_bboxes (np.ndarray, optional): K x 4 true boxes in px of ``image``; dashed lines. With
            both, the legend shows each query's IoU.
        frame (Sequence[float], optional): xyxy box in px of ``image`` that is outlined in white,
            e.g. the content box of a padded canvas.
        caption (str): Extra line at the end of the legend.

    Returns:
        np.ndarray: H' x W' x 3 uint8 RGB.

    Raises:
        ValueError: If the number of boxes differs from the number of queries.
    """
    for name, boxes in (('predicted', bboxes), ('true', gt_bboxes)):
        if boxes is not None and len(boxes) != len(queries):
            raise ValueError(f'{len(queries)} queries but {len(boxes)} {name} boxes')
    height, width = image.shape[:2]
    factor = max(1, -(-_MIN_SIDE // max(height, width)))
    canvas = Image.fromarray(image).resize(
        (width * factor, height * factor), Image.Resampling.NEAREST
    )
    font = _font(min(28, max(13, max(canvas.size) // 45)))

    def enlarged(boxes):
        return (
            None if boxes is None else np.nan_to_num(np.asarray(boxes, dtype=np.float64)) * factor
        )

    if frame is not None:
        ImageDraw.Draw(canvas).rectangle(tuple(enlarged(frame)), outline=_FRAME_COLOUR, width=1)
    _draw_boxes(canvas, enlarged(bboxes), enlarged(gt_bboxes), font)

    notes, key = [''] * len(queries), []
    if bboxes is not None and gt_bboxes is not None:
        ious = box_iou(
            torch.as_tensor(np.asarray(bboxes, dtype=np.float64)),
            torch.as_tensor(np.asarray(gt_bboxes, dtype=np.float64)),
        ).diagonal()
        notes = [f'(IoU {iou:.2f})' for iou in ious.tolist()]
        key.append('solid: prediction, dashed: ground truth')
    key = '; '.join([*key, *([caption] if caption else [])])
    strip = _legend(canvas.width, queries, notes, font, key)
    picture = Image.new('RGB', (canvas.width, canvas.height + strip.height))
    picture.paste(canvas, (0, 0))
    picture.paste(strip, (0, canvas.height))
    return np.asarray(picture)


def draw_sample(
    image: np.ndarray, data_sample: DetDataSample, draw_gt: bool = True, draw_pred: bool = True
) -> np.ndarray:
    """Draw what a data sample holds on the original ``image`` (H x W x 3 uint8 RGB).

    ``pred_instances`` are in px of the original image already; ``gt_instances`` are in px of the
    network input and are mapped back through the sample's homography.
    """
    sample = data_sample.cpu()
    bboxes = gt_bboxes = None
    if draw_pred and 'pred_instances' in sample:
        bboxes = sample.pred_instances.bboxes.float().numpy()
    if draw_gt and 'gt_instances' in sample and len(sample.gt_instances):
        gt = sample.gt_instances.bboxes
        gt = gt if isinstance(gt, torch.Tensor) else gt.tensor
        gt_bboxes = canvas_to_image(gt.float(), sample.metainfo).numpy()
    return draw_grounding(image, sample.queries, bboxes, gt_bboxes)


@VISUALIZERS.register_module()
class GroundingVisualizer(DetLocalVisualizer):
    """Visualizer of grounding samples: one colour per query instead of one per class.

    Subclasses mmdet's so that its backends and hooks work unchanged. Boxes and texts are drawn with
    Pillow: matplotlib's text has no wrapping and hides small pictures under their labels.
    """

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.0,
        step: int = 0,
    ) -> None:
        """Draw one sample and show it, write it to ``out_file``, or hand it to the backends.

        Args:
            name (str): Identifier of the picture in the backends and title of the window.
            image (np.ndarray): H x W x 3 RGB, the original image.
            data_sample (DetDataSample, optional): With ``queries`` in its metainfo.
            draw_gt (bool): Draw ``gt_instances`` (px of the network input), dashed.
            draw_pred (bool): Draw ``pred_instances`` (px of the original image), solid.
            show (bool): Open a window for ``wait_time`` seconds (0: until a key is pressed).
            out_file (str, optional): Where to write the picture; its folder is created.
            pred_score_thr (float): Ignored: every query has exactly one answer.
            step (int): Step under which backends store the picture.
        """
        picture = image.clip(0, 255).astype(np.uint8)
        if data_sample is not None:
            picture = draw_sample(picture, data_sample, draw_gt, draw_pred)
        self.set_image(picture)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(picture[..., ::-1], out_file)
        else:
            self.add_image(name, picture, step)
