"""Scenes of textured shapes: how they are sampled and drawn. Everything follows from a seed."""

import random
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import cv2
import numpy as np

KINDS = ('circle', 'square', 'triangle')
COLOURS = dict(  # BGR
    red=(50, 50, 220),
    green=(70, 170, 60),
    blue=(215, 100, 40),
    yellow=(40, 215, 235),
)
TEXTURES = ('plain', 'striped')
# Categories for a detector.
CLASSES = tuple(' '.join(c) for c in product(TEXTURES, COLOURS, KINDS))
# Half the side of the box, as a share of the canvas.
SIZES = dict(small=(0.1, 0.13), large=(0.17, 0.21))


@dataclass(frozen=True)
class Shape:
    """One shape; centre and radius (half its box) in pixels."""

    kind: str
    colour: str
    texture: str
    size: str
    cx: float
    cy: float
    radius: float

    @property
    def category(self) -> str:
        """Texture, colour and kind: one of :data:`CLASSES`."""
        return f'{self.texture} {self.colour} {self.kind}'

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) in pixels."""
        return (
            self.cx - self.radius,
            self.cy - self.radius,
            self.cx + self.radius,
            self.cy + self.radius,
        )


@dataclass(frozen=True)
class Scene:
    """Shapes that do not overlap, on a square canvas of ``side`` pixels."""

    side: int
    shapes: tuple[Shape, ...]
    background: int

    def to_dict(self) -> dict:
        """The scene in plain types, for records, which are pickled and printed."""
        shapes = [vars(s) for s in self.shapes]
        return dict(side=self.side, background=self.background, shapes=shapes)

    @classmethod
    def from_dict(cls, scene: dict) -> 'Scene':
        """The reverse of :meth:`to_dict`."""
        return cls(scene['side'], tuple(Shape(**s) for s in scene['shapes']), scene['background'])


def sample_scene(rng: random.Random, side: int = 64, num_shapes: tuple[int, int] = (2, 4)) -> Scene:
    """Draw a scene of ``num_shapes`` (inclusive range) shapes whose boxes do not overlap."""
    shapes: list[Shape] = []
    wanted = rng.randint(*num_shapes)
    while len(shapes) < wanted:
        size = rng.choice(tuple(SIZES))
        # Whole half-pixels: the drawn shape fills its box exactly.
        radius = round(rng.uniform(*SIZES[size]) * side * 2) / 2
        for _ in range(20):
            cx = round(rng.uniform(radius + 1, side - radius - 1) * 2) / 2
            cy = round(rng.uniform(radius + 1, side - radius - 1) * 2) / 2
            if all(max(abs(cx - s.cx), abs(cy - s.cy)) > radius + s.radius + 1 for s in shapes):
                shapes.append(
                    Shape(
                        rng.choice(KINDS),
                        rng.choice(tuple(COLOURS)),
                        rng.choice(TEXTURES),
                        size,
                        cx,
                        cy,
                        radius,
                    )
                )
                break
        else:
            shapes.clear()  # the large ones left no room: start again
    return Scene(side, tuple(shapes), rng.randrange(2**16))


def _outline(shape: Shape) -> np.ndarray:
    """Corners of a shape, unit box [-1, 1] scaled to pixels; P x 2."""
    unit = dict(
        square=[(-1, -1), (1, -1), (1, 1), (-1, 1)],
        triangle=[(0, -1), (1, 1), (-1, 1)],
    )[shape.kind]
    # OpenCV paints the outline too, half a pixel to either side.
    return np.array(unit) * (shape.radius - 0.5) + (shape.cx, shape.cy)


@lru_cache(maxsize=4)
def _noise(side: int) -> np.ndarray:
    return np.random.RandomState(0).randint(-12, 13, (2 * side, 2 * side, 3)).astype(np.int16)


def _mask(shape: Shape, left: int, top: int, side: int) -> np.ndarray:
    """Coverage of the pixels of a square window by a shape, uint8."""
    mask = np.zeros((side, side), np.uint8)
    # cv2 counts pixel centres, boxes count pixel edges: hence the half pixel; 4 fractional bits.
    offset = np.array([left + 0.5, top + 0.5])
    if shape.kind == 'circle':
        centre = np.round((np.array([shape.cx, shape.cy]) - offset) * 16).astype(int).tolist()
        cv2.circle(mask, centre, round((shape.radius - 0.5) * 16), 255, -1, cv2.LINE_AA, 4)
    else:
        corners = np.round((_outline(shape) - offset) * 16).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
    return mask


@lru_cache(maxsize=16)
def _pattern(texture: str, side: int) -> np.ndarray:
    """Brightness of a texture on the whole canvas, side x side x 1, 1 = the plain colour."""
    ys, xs = np.mgrid[0:side, 0:side]
    period = max(3, side // 16)
    dark = (xs + ys) % (2 * period) >= period if texture == 'striped' else np.zeros_like(xs, bool)
    return np.where(dark, 0.35, 1.0).astype(np.float32)[..., None]


def render_scene(scene: Scene) -> np.ndarray:
    """Draw a scene: uint8 BGR, side x side x 3, anti-aliased, on a noisy grey background."""
    side = scene.side
    oy, ox = scene.background % side, scene.background // side % side
    grey = 60 + scene.background % 61
    image = (_noise(side)[oy : oy + side, ox : ox + side] + grey).astype(np.float32)
    for shape in scene.shapes:
        # Only the pixels around the shape: drawing is on the path of every training sample.
        left, top = (max(0, int(c - shape.radius) - 1) for c in (shape.cx, shape.cy))
        window = int(2 * shape.radius) + 4
        area = image[top : top + window, left : left + window]
        height, width = area.shape[:2]
        alpha = _mask(shape, left, top, window)[:height, :width, None] / np.float32(255)
        pattern = _pattern(shape.texture, side)[top : top + window, left : left + window]
        area += alpha * (np.array(COLOURS[shape.colour], np.float32) * pattern - area)
    return image.clip(0, 255).astype(np.uint8)
