"""The font of pictures, and lines of text that fit."""

import functools
import os.path as osp

import matplotlib
from PIL import ImageFont


@functools.lru_cache(maxsize=8)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """The font of pictures, ``size`` px high."""
    # matplotlib (a dependency of mmengine) ships DejaVu Sans: Latin, Greek, Cyrillic, Arabic and
    # more. A character that it lacks is drawn as an empty box, never as an error.
    return ImageFont.truetype(
        osp.join(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'), size
    )


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
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
