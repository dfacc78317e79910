"""Colours of queries and of text upon them."""

import colorsys

Colour = tuple[int, int, int]

PAPER = (32, 32, 32)
INK = (235, 235, 235)
NO_ANSWER = (130, 130, 130)


def query_colour(index: int) -> Colour:
    """RGB colour of query ``index``: hues a golden ratio apart, distinct for any K."""
    rgb = colorsys.hsv_to_rgb((0.33 + index * 0.618034) % 1.0, 0.85, 1.0)
    return tuple(round(255 * c) for c in rgb)


def ink_on(fill: Colour) -> Colour:
    """Black or white, whichever is read better on ``fill`` (contrast of WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _unit(fill)]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def _unit(colour: Colour) -> list[float]:
    return [c / 255 for c in colour]
