"""Pictures of grounded queries: boxes on the image, query texts or their caption below it."""

from collections.abc import Sequence

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

from .box_layer import draw_boxes, visible
from .caption_strip import caption_strip, mark_words
from .colours import INK, NO_ANSWER, PAPER, Colour, query_colour
from .lettering import font_of, wrap

_MIN_SIDE = 320  # px: smaller pictures are enlarged so that boxes and tags can be told apart
_MARGIN = 6
_FRAME_COLOUR = (255, 255, 255)
_PROPOSAL_COLOUR = (200, 200, 200)


def _legend(
    width: int,
    queries: Sequence[str],
    notes: Sequence[str],
    font: ImageFont.FreeTypeFont,
    key: str,
    colours: Sequence[Colour],
) -> Image.Image:
    """Strip with the colour, number and text of every query, then the line ``key``."""
    line_height = sum(font.getmetrics()) + 2
    swatch = line_height - 6
    indent = swatch + 2 * _MARGIN
    entries = []
    for i, (query, note) in enumerate(zip(queries, notes, strict=True)):
        text = f'{i + 1}. {query}' if len(queries) > 1 else query
        entries.append((i, wrap(f'{text}  {note}', font, width - indent - _MARGIN)))
    if key:
        entries.append((None, wrap(key, font, width - 2 * _MARGIN)))
    num_lines = sum(len(lines) for _, lines in entries)
    strip = Image.new('RGB', (width, num_lines * line_height + 2 * _MARGIN), PAPER)
    draw = ImageDraw.Draw(strip)
    y = _MARGIN
    for i, lines in entries:
        if i is not None:
            draw.rectangle((_MARGIN, y + 3, _MARGIN + swatch, y + 3 + swatch), fill=colours[i])
        for line in lines:
            draw.text((indent if i is not None else _MARGIN, y), line, font=font, fill=INK)
            y += line_height
    return strip


def draw_grounding(
    image: np.ndarray,
    queries: Sequence[str],
    bboxes: np.ndarray | None = None,
    gt_bboxes: np.ndarray | None = None,
    frame: Sequence[float] | None = None,
    caption: str = '',
    sentence: str | None = None,
    spans: Sequence[tuple[int, int]] = (),
    relations: Sequence[tuple[int, int, str]] = (),
    answered: Sequence[bool] | None = None,
    notes: Sequence[str] | None = None,
    proposals: np.ndarray | None = None,
) -> np.ndarray:
    """One picture of K queries: image with boxes on top, a legend with the query texts below.

    If the queries are the phrases of a sentence, the sentence stands below, its phrases in the
    colours of their boxes.

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
        sentence (str, optional): What the queries are phrases of.
        spans (Sequence): First word and one after the last of each phrase of ``sentence``.
        relations (Sequence): Of the sentence: subject, object (numbers of phrases) and text.
        answered (Sequence[bool], optional): Of each query; what has no answer is grey.
        notes (Sequence[str], optional): More to say of each query.
        proposals (np.ndarray, optional): M x 4 boxes in px of ``image``; thin lines.

    Returns:
        np.ndarray: H' x W' x 3 uint8 RGB.

    Raises:
        ValueError: If the number of boxes or spans differs from the number of queries.
    """
    given = dict(predicted=bboxes, true=gt_bboxes)
    for name, boxes in given.items():
        if boxes is not None and len(boxes) != len(queries):
            raise ValueError(f'{len(queries)} queries but {len(boxes)} {name} boxes')
    if sentence is not None and len(spans) != len(queries):
        raise ValueError(f'{len(queries)} queries but {len(spans)} spans in {sentence!r}')
    height, width = image.shape[:2]
    factor = max(1, -(-_MIN_SIDE // max(height, width)))
    canvas = Image.fromarray(image).resize(
        (width * factor, height * factor), Image.Resampling.NEAREST
    )
    font = font_of(min(28, max(13, max(canvas.size) // 45)))

    def enlarged(boxes):
        return (
            None if boxes is None else np.nan_to_num(np.asarray(boxes, dtype=np.float64)) * factor
        )

    draw = ImageDraw.Draw(canvas)
    if frame is not None:
        draw.rectangle(tuple(enlarged(frame)), outline=_FRAME_COLOUR, width=1)
    for box in enlarged(proposals) if proposals is not None else ():
        draw.rectangle(visible(box, canvas), outline=_PROPOSAL_COLOUR, width=1)
    answered = [True] * len(queries) if answered is None else list(answered)
    colours = [query_colour(i) if found else NO_ANSWER for i, found in enumerate(answered)]
    draw_boxes(canvas, enlarged(bboxes), enlarged(gt_bboxes), font, colours)

    notes, key = _describe(notes or [''] * len(queries), bboxes, gt_bboxes, answered, caption)
    if sentence is None:
        strip = _legend(canvas.width, queries, notes, font, key, colours)
    else:
        words = mark_words(sentence, spans)
        strip = caption_strip(canvas.width, words, colours, notes, relations, key, font)
    return np.concatenate([canvas, strip])


def _describe(
    notes: Sequence[str],
    bboxes: np.ndarray | None,
    gt_bboxes: np.ndarray | None,
    answered: Sequence[bool],
    caption: str,
) -> tuple[list[str], str]:
    """Notes with the IoU of every query, if it is known, and the line that explains the drawing."""
    notes, key = list(notes), []
    if bboxes is not None and gt_bboxes is not None:
        both = [torch.as_tensor(np.asarray(b, dtype=np.float64)) for b in (bboxes, gt_bboxes)]
        ious = box_iou(*both).diagonal().tolist()
        notes = [f'{note} (IoU {iou:.2f})'.strip() for note, iou in zip(notes, ious)]
        key.append('solid: prediction, dashed: ground truth')
    if not all(answered):
        key.append('grey: nothing that was detected fits')
    return notes, '; '.join(filter(None, [*key, caption]))


def caption_of(data_sample: DetDataSample) -> dict:
    """``sentence``, ``spans`` and ``relations`` of a sample for :func:`draw_grounding`; empty if its
    queries are not the phrases of a sentence."""
    sentence, spans = data_sample.get('caption'), data_sample.get('query_spans')
    # A model that wants a sentence was given its queries in a row: they are read better as a list.
    if not sentence or spans is None or sentence == ' '.join(data_sample.queries):
        return {}
    relations = [relation[:3] for relation in data_sample.get('relations') or ()]
    return dict(sentence=sentence, spans=spans, relations=relations)


def draw_sample(
    image: np.ndarray, data_sample: DetDataSample, draw_gt: bool = True, draw_pred: bool = True
) -> np.ndarray:
    """Draw what a data sample holds on the original ``image`` (H x W x 3 uint8 RGB).

    ``pred_instances`` are in px of the original image already; ``gt_instances`` are in px of the
    network input and are mapped back through the sample's homography. In a sample with a caption, a
    phrase whose best box has score 0 counts as not answered.
    """
    sample = data_sample.cpu()
    given = caption_of(sample)
    bboxes = gt_bboxes = None
    if draw_pred and 'pred_instances' in sample:
        bboxes = sample.pred_instances.bboxes.float().numpy()
        if given and 'scores' in sample.pred_instances:
            given['answered'] = (sample.pred_instances.scores != 0).tolist()
    if draw_gt and 'gt_instances' in sample and len(sample.gt_instances):
        gt = sample.gt_instances.bboxes
        gt = gt if isinstance(gt, torch.Tensor) else gt.tensor
        gt_bboxes = canvas_to_image(gt.float(), sample.metainfo).numpy()
    return draw_grounding(image, sample.queries, bboxes, gt_bboxes, **given)


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
