"""Videos of moving shapes in which one pair does something to each other for a while."""

import math
import random
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .scene import COLOURS, KINDS, TEXTURES, Scene, Shape, render_scene
from .video_relations import Motion, holding, play

# Half the side of the box, as a share of the picture: smaller than in still scenes, for room to move.
_SIZES = dict(small=(0.08, 0.1), large=(0.125, 0.15))
# Frames on the way to or from the place of an event, as a share of the video.
_TRAVEL = 1 / 4
# Of the smaller box, what another shape may hide by chance.
_MAX_HIDDEN = 0.3


@dataclass(frozen=True)
class Event:
    """Shape ``subject`` does ``predicate`` to shape ``target`` in frames [begin, end)."""

    subject: int
    predicate: str
    target: int
    begin: int
    end: int


@dataclass(frozen=True)
class Video:
    """Moving shapes on a square picture.

    Attributes:
        side (int): Side of the picture, px.
        shapes (tuple[Shape, ...]): S shapes as they are in frame 0; later ones are painted over
            earlier ones.
        centres (np.ndarray): S x F x 2, px.
        background (int): Which background.
        event (Event, optional): What is told of the video.
    """

    side: int
    shapes: tuple[Shape, ...]
    centres: np.ndarray
    background: int
    event: Event | None = None

    def __len__(self) -> int:
        return self.centres.shape[1]

    def frame(self, index: int) -> np.ndarray:
        """Draw frame ``index``: uint8 BGR, side x side x 3."""
        shapes = tuple(
            replace(shape, cx=float(x), cy=float(y))
            for shape, (x, y) in zip(self.shapes, self.centres[:, index], strict=True)
        )
        return render_scene(Scene(self.side, shapes, self.background))

    @cached_property
    def tracks(self) -> np.ndarray:
        """Boxes of all shapes in all frames, S x F x 4, xyxy px, float32."""
        radii = np.array([s.radius for s in self.shapes])[:, None, None]
        return np.concatenate([self.centres - radii, self.centres + radii], 2).astype(np.float32)

    def holding(self, predicate: str) -> np.ndarray:
        """In which frames which shapes look as ``predicate`` says; S x S x F (subject, object)."""
        radii = np.array([s.radius for s in self.shapes])
        return holding(predicate, radii, self.centres, self.side)


def sample_video(
    rng: random.Random,
    predicate: str,
    side: int = 64,
    num_frames: int = 32,
    num_shapes: tuple[int, int] = (3, 5),
    event_share: tuple[float, float] = (0.25, 0.6),
) -> Video:
    """Draw a video.

    Args:
        predicate (str): What the pair does, one of :data:`PREDICATES`.
        side (int): Side of the picture, px.
        num_frames (int): F.
        num_shapes (tuple[int, int]): Least and largest number of shapes.
        event_share (tuple[float, float]): Least and largest length of the event as a share of F.
    """
    length = round(rng.uniform(*event_share) * num_frames)
    # Often near an end: otherwise a window in the middle would do well without looking.
    free = num_frames - length
    begin = min(int(rng.betavariate(0.5, 0.5) * (free + 1)), free)
    wanted = rng.randint(*num_shapes)
    while True:
        shapes = _cast(rng, side, wanted)
        centres = _pair_paths(rng, predicate, shapes[:2], side, num_frames, begin, length)
        for shape in shapes[2:]:
            path = centres and _bystander_path(rng, shape, shapes, centres, side, num_frames)
            centres = centres and (centres + [path] if path is not None else None)
        if not centres:
            continue
        order = rng.sample(range(wanted), wanted)
        subject, target = order.index(0), order.index(1)
        if predicate == 'cover' and subject < target:
            order[subject], order[target] = 1, 0
            subject, target = target, subject
        paths = np.stack([centres[i] for i in order]).astype(np.float32)
        cast = tuple(
            replace(shapes[i], cx=float(path[0, 0]), cy=float(path[0, 1]))
            for i, path in zip(order, paths, strict=True)
        )
        event = Event(subject, predicate, target, begin, begin + length)
        return Video(side, cast, paths, rng.randrange(2**16), event)


def _cast(rng: random.Random, side: int, count: int) -> list[Shape]:
    """Subject, object and bystanders, most of which look somewhat like one of the two."""
    cast = [_shape(rng, side) for _ in range(2)]
    for _ in range(count - 2):
        like, other = rng.choice(cast[:2]), _shape(rng, side)
        if rng.random() < 0.8:
            copied = ('kind', *rng.sample(('colour', 'texture'), rng.randint(0, 2)))
            other = replace(other, **{key: getattr(like, key) for key in copied})
        cast.append(other)
    return cast


def _shape(rng: random.Random, side: int) -> Shape:
    size = rng.choice(tuple(_SIZES))
    radius = round(rng.uniform(*_SIZES[size]) * side * 2) / 2
    looks = (rng.choice(options) for options in (KINDS, tuple(COLOURS), TEXTURES))
    return Shape(*looks, size, 0.0, 0.0, radius)


def _wander(rng: random.Random, frames: int, amplitude: float) -> np.ndarray:
    """A slow smooth way around the origin, F x 2."""
    time = np.arange(frames) / frames
    return np.stack(
        [
            amplitude * np.sin(2 * math.pi * (rng.uniform(0.3, 0.7) * time + rng.random()))
            for _ in range(2)
        ],
        axis=1,
    )


def _pair_paths(
    rng: random.Random,
    predicate: str,
    pair: list[Shape],
    side: int,
    frames: int,
    begin: int,
    length: int,
) -> list[np.ndarray] | None:
    """Centres of subject and object, F x 2 each; None if they do not fit into the picture."""
    reach = pair[0].radius + pair[1].radius
    for _ in range(20):
        motion = play(rng, predicate, reach, side, frames, length)
        shift = np.concatenate(
            [np.zeros((begin, 2)), motion.shift, np.tile(motion.shift[-1], (frames, 1))]
        )[:frames]
        target = shift + _wander(rng, frames, rng.uniform(0.015, 0.035) * side)
        subject = target + _offsets(rng, motion, reach, side, frames, begin)
        place = _fit(rng, [subject, target], [s.radius for s in pair], side)
        if place is not None:
            return [subject + place, target + place]
    return None


def _offsets(
    rng: random.Random, motion: Motion, reach: float, side: int, frames: int, begin: int
) -> np.ndarray:
    """Centre of the subject from that of the object, F x 2: the event, and ways there and back."""
    end = begin + len(motion.offset)
    parts = [motion.offset]
    for edge, stays, count in ((0, motion.before, begin), (-1, motion.after, frames - end)):
        place, away = motion.offset[edge], np.arange(1, count + 1)[:, None]
        if stays:
            way = np.tile(place, (count, 1))
        else:
            # Quick near the event, so that its ends are clear.
            progress = 1 - (1 - (away / (_TRAVEL * frames)).clip(0, 1)) ** 1.75
            angle = math.atan2(*place[::-1]) + rng.choice((-1, 1)) * rng.uniform(0.6, 1)
            distance = 1.25 * reach + rng.uniform(0.16, 0.25) * side
            far = distance * np.array([math.cos(angle), math.sin(angle)])
            far = far + _wander(rng, count, 0.02 * side)
            way = place + progress * (far - place)
        parts = [way[::-1], *parts] if edge == 0 else [*parts, way]
    return np.concatenate(parts)


def _fit(
    rng: random.Random, paths: list[np.ndarray], radii: list[float], side: int
) -> np.ndarray | None:
    """A random place for paths taken together, so that no box leaves the picture."""
    low = np.min([(p - r).min(0) for p, r in zip(paths, radii, strict=True)], axis=0)
    high = np.max([(p + r).max(0) for p, r in zip(paths, radii, strict=True)], axis=0)
    if (high - low > side - 2).any():
        return None
    return np.array([rng.uniform(1 - a, side - 1 - b) for a, b in zip(low, high, strict=True)])


def _bystander_path(
    rng: random.Random,
    shape: Shape,
    others: list[Shape],
    taken: list[np.ndarray],
    side: int,
    frames: int,
) -> np.ndarray | None:
    """Centres of a shape that stays out of the way, F x 2; None if there is no room."""
    for _ in range(30):
        path = _wander(rng, frames, rng.uniform(0.02, 0.05) * side)
        if rng.random() < 0.6:
            path = path + _solo(rng, side, frames)
        place = _fit(rng, [path], [shape.radius], side)
        if place is None:
            continue
        path = path + place
        if all(
            _hidden(path, shape, c, o) <= _MAX_HIDDEN for c, o in zip(taken, others, strict=False)
        ):
            return path
    return None


def _solo(rng: random.Random, side: int, frames: int) -> np.ndarray:
    """A lively move of one shape alone, F x 2: moving does not tell who the sentence is about."""
    length = round(rng.uniform(0.25, 0.6) * frames)
    begin = rng.randint(0, frames - length)
    x = ((np.arange(frames) - begin) / length).clip(0, 1)
    reach = rng.uniform(0.12, 0.25) * side
    kind = rng.choice(('dash', 'hop', 'loop'))
    if kind == 'dash':
        angle = rng.uniform(0, 2 * math.pi)
        return reach * x[:, None] * np.array([math.cos(angle), math.sin(angle)])
    if kind == 'hop':
        hops = max(2, round(length / frames * 7))
        return np.stack([np.zeros(frames), -reach / 2 * np.abs(np.sin(math.pi * hops * x))], 1)
    angle = 2 * math.pi * x
    return reach / 2 * np.stack([np.cos(angle) - 1, np.sin(angle)], 1)


def _hidden(a: np.ndarray, shape_a: Shape, b: np.ndarray, shape_b: Shape) -> float:
    """Largest share of the smaller of two boxes that the other one shares with it."""
    reach = shape_a.radius + shape_b.radius
    smaller = 2 * min(shape_a.radius, shape_b.radius)
    overlap = (reach - np.abs(a - b)).clip(0, smaller)
    return float(overlap.prod(1).max() / smaller**2)
