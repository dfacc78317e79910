import math
from collections.abc import Sequence


def around(boxes: Sequence[Sequence[float]]) -> list[float]:
    """The box around boxes, of which there is at least one; all x1 y1 x2 y2."""
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return [min(x1), min(y1), max(x2), max(y2)]


def box_problem(
    box: Sequence[float], index: int, width: int | None, height: int | None
) -> str | None:
    """What makes a box useless, as ``'kind: detail'``; None for a good one.

    A box may reach over the border of its picture, as in the official data.

    Args:
        box (Sequence[float]): x1, y1, x2, y2, px.
        index (int): Number of its query, for the message.
        width (int, optional): Of the picture, px; None if it is not known.
        height (int, optional): Likewise.
    """
    x1, y1, x2, y2 = box
    shown = f'box {index} is {[x1, y1, x2, y2]} (x1, y1, x2, y2)'
    if not all(math.isfinite(v) for v in (x1, y1, x2, y2)):
        return f'non-finite box: {shown}'
    if x2 <= x1 or y2 <= y1:
        return f'zero-size box: {shown}'
    if width and height and (x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height):
        return f'box outside the image: {shown}, the image is {width} x {height}'
    return None
