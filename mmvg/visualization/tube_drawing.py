"""A sentence's answer in a video: frames of an annotated clip, and a sheet of key frames."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from .box_layer import draw_boxes
from .colours import INK, PAPER, query_colour
from .lettering import font_of, wrap

_COLOUR = query_colour(0)
_BAR = (90, 90, 90)
_MARGIN = 6
_OUTSIDE = 0.45  # brightness of frames outside of the span
_CLIP_SIDES = 320, 1280  # px, of the long side at least and at most
_CELL_SIDES = 240, 320
_COLUMNS = 4


class TubeDrawing:
    """Draws where and when something is in a video.

    Inside the span a frame has its box; outside it is dark. A bar below stands for the whole video,
    with the span in the colour of the box.

    Args:
        text (str): The sentence.
        span (tuple): First frame, and one after the last.
        bboxes (np.ndarray): A box (xyxy in px of the video) for each frame of the span.
        times (Sequence[float]): When each frame of the video begins, and when the last one ends, s.
        size (tuple): Width and height of the video, px.
        note (str): More to say, such as the score.
    """

    def __init__(
        self,
        text: str,
        span: tuple[int, int],
        bboxes: np.ndarray,
        times: Sequence[float],
        size: tuple[int, int],
        note: str = '',
    ) -> None:
        self.text = text
        self.span = span
        self.bboxes = np.asarray(bboxes, dtype=np.float64)
        self.times = times
        self.size = size
        self.note = note

    # --- the clip

    @cached_property
    def clip_size(self) -> tuple[int, int]:
        """Width and height of the frames of the clip, even, as codecs want them."""
        width, height = fit(self.size, *_CLIP_SIDES)
        return _even(width), _even(height + self._strip.height)

    def clip_frame(self, image: np.ndarray, frame_id: int) -> np.ndarray:
        """A frame of the clip (RGB uint8) of a frame of the video (RGB uint8)."""
        picture = self._annotate(image, frame_id, fit(self.size, *_CLIP_SIDES))
        frame = Image.new('RGB', self.clip_size, PAPER)
        frame.paste(picture)
        frame.paste(self._strip, (0, picture.height))
        x = place_on_bar(self.times[frame_id], self.times, picture.width)
        draw = ImageDraw.Draw(frame)
        draw.rectangle((x - 1, picture.height, x + 1, picture.height + 2 * _MARGIN + 8), fill=INK)
        return np.asarray(frame)

    @cached_property
    def _strip(self) -> Image.Image:
        width, height = fit(self.size, *_CLIP_SIDES)
        return self._draw_strip(width, _font_size(width, height))

    # --- the sheet

    @cached_property
    def key_frames(self) -> list[int]:
        """Frames of the video that :meth:`sheet` needs."""
        return choose_key_frames(len(self.times) - 1, self.span)

    def sheet(self, images: Mapping[int, np.ndarray]) -> np.ndarray:
        """Key frames (RGB uint8, by number) with their times, those of the span in a frame."""
        width, height = fit(self.size, *_CELL_SIDES)
        font = font_of(14)
        label = sum(font.getmetrics()) + 2
        step_x, step_y = width + 2 * _MARGIN, height + label + 2 * _MARGIN
        columns = min(_COLUMNS, len(self.key_frames))
        rows = -(-len(self.key_frames) // columns)
        strip = self._draw_strip(columns * step_x, 16, self.key_frames)
        sheet = Image.new('RGB', (columns * step_x, rows * step_y + strip.height), PAPER)
        draw = ImageDraw.Draw(sheet)
        for n, frame_id in enumerate(self.key_frames):
            x, y = n % columns * step_x + _MARGIN, n // columns * step_y + _MARGIN
            if self.is_inside(frame_id):
                edge = _MARGIN - 2
                draw.rectangle(
                    (x - edge, y - edge, x + width + edge - 1, y + height + edge - 1), fill=_COLOUR
                )
            sheet.paste(self._annotate(images[frame_id], frame_id, (width, height)), (x, y))
            ink = _COLOUR if self.is_inside(frame_id) else INK
            text = f'{format_time(self.times[frame_id])} · frame {frame_id}'
            draw.text((x, y + height + _MARGIN - 2), text, font=font, fill=ink)
        sheet.paste(strip, (0, rows * step_y))
        return np.asarray(sheet)

    # --- both

    def is_inside(self, frame_id: int) -> bool:
        """Whether the frame belongs to the span."""
        return self.span[0] <= frame_id < self.span[1]

    def _annotate(self, image: np.ndarray, frame_id: int, size: tuple[int, int]) -> Image.Image:
        factor = size[0] / image.shape[1], size[1] / image.shape[0]
        resample = Image.Resampling.NEAREST if factor[0] > 1 else Image.Resampling.BILINEAR
        picture = Image.fromarray(image).resize(size, resample)
        if not self.is_inside(frame_id):
            return picture.point(lambda value: value * _OUTSIDE)
        box = self.bboxes[frame_id - self.span[0]] * [*factor, *factor]
        draw_boxes(picture, box[None], None, font_of(13), [_COLOUR])
        return picture

    def _draw_strip(self, width: int, font_size: int, marks: Sequence[int] = ()) -> Image.Image:
        """Time bar, with a mark at some frames; times; the sentence."""
        font = font_of(font_size)
        lines = wrap(self.text, font, width - 2 * _MARGIN)
        height = sum(font.getmetrics()) + 2
        top = 2 * _MARGIN + 8
        strip = Image.new('RGB', (width, top + (1 + len(lines)) * height + _MARGIN), PAPER)
        draw = ImageDraw.Draw(strip)
        start, end = (place_on_bar(t, self.times, width) for t in (self.times[0], self.times[-1]))
        draw.rectangle((start, _MARGIN, end, _MARGIN + 8), fill=_BAR)
        begin, stop = (self.times[i] for i in self.span)
        ends = [place_on_bar(t, self.times, width) for t in (begin, stop)]
        draw.rectangle((ends[0], _MARGIN, max(ends[1], ends[0] + 2), _MARGIN + 8), fill=_COLOUR)
        for frame_id in marks:
            x = place_on_bar(self.times[frame_id], self.times, width)
            draw.line((x, _MARGIN - 2, x, _MARGIN + 10), fill=INK)
        label = f'{format_time(begin, False)}–{format_time(stop)}'
        if format_time(begin) == format_time(stop):  # a frame or two
            label = f'{begin:.2f}–{stop:.2f} s'
        label = ', '.join(filter(None, [label, self.note]))
        length = font.getlength(label)
        x = min(max(sum(ends) / 2 - length / 2, _MARGIN), max(width - _MARGIN - length, _MARGIN))
        draw.text((x, top), label, font=font, fill=_COLOUR)
        for text, left in ((format_time(0.0), True), (format_time(self.times[-1]), False)):
            place = _MARGIN if left else width - _MARGIN - font.getlength(text)
            right = place + font.getlength(text)
            if right + _MARGIN < x or place > x + length + _MARGIN:
                draw.text((place, top), text, font=font, fill=INK)
        for n, line in enumerate(lines, 1):
            draw.text((_MARGIN, top + n * height), line, font=font, fill=INK)
        return strip


def choose_key_frames(num_frames: int, span: tuple[int, int], count: int = 8) -> list[int]:
    """The ends of the video, the ends and the middle of the span, and what fills the widest gaps.

    >>> choose_key_frames(100, (40, 45))
    [0, 20, 40, 42, 44, 71, 85, 99]
    """
    begin, end = span
    chosen = {0, num_frames - 1, begin, (begin + end - 1) // 2, end - 1}
    while len(chosen) < min(count, num_frames):
        ordered = sorted(chosen)
        gaps = [(b - a, -a) for a, b in zip(ordered, ordered[1:])]
        gap, start = max(gaps)
        chosen.add(-start + gap // 2)
    return sorted(chosen)


def place_on_bar(time: float, times: Sequence[float], width: int) -> int:
    """Where a time stands on the time bar of a strip, px from its left."""
    length = max(times[-1] - times[0], 1e-9)
    return round(_MARGIN + (width - 1 - 2 * _MARGIN) * (time - times[0]) / length)


def fit(size: tuple[int, int], least: int, most: int) -> tuple[int, int]:
    """Size of a picture whose long side is enlarged to ``least`` px by a whole factor, or reduced to
    ``most`` px."""
    long = max(size)
    factor = min(max(1, -(-least // long)), most / long) if long < least else min(1, most / long)
    return tuple(max(1, round(side * factor)) for side in size)


def format_time(seconds: float, unit: bool = True) -> str:
    """``'7.3 s'``, from a minute on ``'2:07.3'``."""
    tenths = round(seconds * 10)
    if tenths >= 600:
        return f'{tenths // 600}:{tenths % 600 / 10:04.1f}'
    return f'{tenths / 10:.1f}{" s" if unit else ""}'


def _font_size(width: int, height: int) -> int:
    return min(28, max(13, max(width, height) // 45))


def _even(length: int) -> int:
    return length + length % 2
