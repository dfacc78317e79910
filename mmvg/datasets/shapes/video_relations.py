"""What two moving shapes can be to each other: how each relation is played, and when it holds."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Lemma with particle -> how the third person and the infinitive are written.
PREDICATES = dict(
    approach=('approaches', 'approach'),
    bounce_on=('bounces on', 'bounce on'),
    chase=('chases', 'chase'),
    cover=('covers', 'cover'),
    move_away_from=('moves away from', 'move away from'),
    run_around=('runs around', 'run around'),
    stand_next_to=('stands next to', 'stand next to'),
    swing_under=('swings under', 'swing under'),
)


@dataclass(frozen=True)
class Motion:
    """How a pair moves during its event of E frames.

    Attributes:
        offset (np.ndarray): E x 2, centre of the subject minus centre of the object, px.
        shift (np.ndarray): E x 2, way of the object since the start of the event, px.
        before (bool): The subject is in its first place before the event too.
        after (bool): The subject stays in its last place after the event.
    """

    offset: np.ndarray
    shift: np.ndarray
    before: bool = False
    after: bool = False


def play(
    rng: random.Random, predicate: str, reach: float, side: int, frames: int, length: int
) -> Motion:
    """A random motion of the relation ``predicate``.

    Args:
        reach (float): Sum of the radii of subject and object, px.
        side (int): Side of the picture, px.
        frames (int): Frames of the video; speeds go by it, so that long videos are slow.
        length (int): E, frames of the event.
    """
    x = np.arange(length) / max(length - 1, 1)
    return _PLAYS[predicate](rng, x, reach, side, length / frames)


def _towards(angle: float) -> np.ndarray:
    return np.array([math.cos(angle), math.sin(angle)])


def _still(x: np.ndarray) -> np.ndarray:
    return np.zeros((len(x), 2))


def _approach(rng, x, reach, side, share, leaving: bool = False) -> Motion:
    near = 1.15 * reach
    distance = near + rng.uniform(0.33, 0.45) * side * (x if leaving else 1 - x)
    offset = distance[:, None] * _towards(rng.uniform(0, 2 * math.pi))
    return Motion(offset, _still(x), before=True, after=True)


def _bounce(rng, x, reach, side, share) -> Motion:
    hops = max(2, round(share * rng.uniform(5, 6)))
    height = reach + rng.uniform(0.09, 0.13) * side * np.abs(np.sin(math.pi * hops * x))
    sway = rng.uniform(-0.2, 0.2) * reach
    return Motion(np.stack([np.full_like(x, sway), -height], 1), _still(x))


def _chase(rng, x, reach, side, share) -> Motion:
    heading = _towards(rng.uniform(0, 2 * math.pi))
    gap = 1.15 * reach + rng.uniform(0.02, 0.05) * side
    way = rng.uniform(0.32, 0.45) * side
    return Motion(np.tile(-gap * heading, (len(x), 1)), way * x[:, None] * heading)


def _cover(rng, x, reach, side, share) -> Motion:
    offset = [rng.choice((-1, 1)) * rng.uniform(0.5, 0.6), rng.uniform(-0.3, 0.3)]
    rng.shuffle(offset)
    wobble = 0.05 * np.sin(2 * math.pi * (2 * x[:, None] + np.array([0.0, 0.25])))
    return Motion(reach * (np.array(offset) + wobble), _still(x))


def _run_around(rng, x, reach, side, share) -> Motion:
    turns = rng.choice((-1, 1)) * share * rng.uniform(1.0, 1.3)
    angle = rng.uniform(0, 2 * math.pi) + 2 * math.pi * turns * x
    distance = 1.15 * reach + rng.uniform(0, 0.03) * side
    return Motion(distance * np.stack([np.cos(angle), np.sin(angle)], 1), _still(x))


def _stand(rng, x, reach, side, share) -> Motion:
    offset = [rng.choice((-1, 1)) * (reach + rng.uniform(0, 1)), rng.uniform(-0.15, 0.15) * reach]
    return Motion(np.tile(offset, (len(x), 1)), _still(x))


def _swing(rng, x, reach, side, share) -> Motion:
    swings = share * rng.uniform(2.5, 3.5)
    angle = 0.45 * np.sin(2 * math.pi * swings * x) * rng.choice((-1, 1))
    return Motion(1.15 * reach * np.stack([np.sin(angle), np.cos(angle)], 1), _still(x))


_PLAYS: dict[str, Callable[..., Motion]] = dict(
    approach=_approach,
    bounce_on=_bounce,
    chase=_chase,
    cover=_cover,
    move_away_from=lambda *args: _approach(*args, leaving=True),
    run_around=_run_around,
    stand_next_to=_stand,
    swing_under=_swing,
)


@dataclass(frozen=True)
class _Pairs:
    """Measures of every ordered pair of shapes in every frame, S x S x F (x 2).

    Lengths are shares of the sum of the radii, speeds are in sides per video.
    """

    offset: np.ndarray  # of the subject from the object
    distance: np.ndarray
    bearing: np.ndarray  # unit vector from object to subject
    radial: np.ndarray  # relative speed, away counts positive
    tangential: np.ndarray
    speed: np.ndarray  # S x F
    way: np.ndarray  # unit velocity, S x F x 2

    @classmethod
    def of(cls, radii: np.ndarray, centres: np.ndarray, side: int) -> '_Pairs':
        velocity = np.gradient(centres, axis=1) * centres.shape[1] / side
        speed = np.linalg.norm(velocity, axis=-1)
        reach = (radii[:, None] + radii)[..., None, None]
        offset = (centres[:, None] - centres) / reach
        distance = np.linalg.norm(offset, axis=-1)
        bearing = offset / np.maximum(distance, 1e-9)[..., None]
        relative = velocity[:, None] - velocity
        return cls(
            offset,
            distance,
            bearing,
            radial=(relative * bearing).sum(-1),
            tangential=relative[..., 1] * bearing[..., 0] - relative[..., 0] * bearing[..., 1],
            speed=speed,
            way=velocity / np.maximum(speed, 1e-9)[..., None],
        )

    @property
    def subject_leads(self) -> np.ndarray:
        """The subject is the one that moves."""
        return self.speed[:, None] > 1.5 * self.speed


def holding(predicate: str, radii: np.ndarray, centres: np.ndarray, side: int) -> np.ndarray:
    """In which frames which shapes look as ``predicate`` says, by their boxes alone.

    Args:
        radii (np.ndarray): S, px.
        centres (np.ndarray): S x F x 2, px; a later shape is in front of an earlier one.
        side (int): Side of the picture, px.

    Returns:
        np.ndarray: S x S x F booleans: subject, object, frame.
    """
    seen = _CRITERIA[predicate](_Pairs.of(radii, centres, side))
    count = len(radii)
    possible = (
        np.tri(count, k=-1, dtype=bool) if predicate == 'cover' else ~np.eye(count, dtype=bool)
    )
    return seen & possible[..., None]


def _comes(p: _Pairs, sign: int) -> np.ndarray:
    straight = sign * (p.way[:, None] * p.bearing).sum(-1) > 0.8
    return (sign * p.radial > 0.35) & straight & p.subject_leads


def _chases(p: _Pairs) -> np.ndarray:
    flees = -(p.way * p.bearing).sum(-1) > 0.8
    together = (p.way[:, None] * p.way).sum(-1) > 0.8
    return flees & together & (np.minimum(p.speed[:, None], p.speed) > 0.3) & (p.distance < 2.2)


def _circles(p: _Pairs) -> np.ndarray:
    turning = np.abs(p.tangential)
    return (turning > 0.7) & (np.abs(p.radial) < 0.4 * turning) & (p.distance < 2) & p.subject_leads


def _beside(p: _Pairs) -> np.ndarray:
    x, y = np.moveaxis(np.abs(p.offset), -1, 0)
    still = np.hypot(p.radial, p.tangential) < 0.5
    slow = np.maximum(p.speed[:, None], p.speed) < 0.6
    return (y < 0.4) & (x > 0.8) & (x < 1.3) & still & slow


def _above(p: _Pairs) -> np.ndarray:
    x, y = np.moveaxis(p.offset, -1, 0)
    return (np.abs(x) < 0.4) & (y < -0.85) & (y > -1.9)


def _below(p: _Pairs) -> np.ndarray:
    x, y = np.moveaxis(p.offset, -1, 0)
    return (np.abs(x) < 0.6) & (y > 0.9) & (y < 1.3)


_CRITERIA: dict[str, Callable[[_Pairs], np.ndarray]] = dict(
    approach=lambda p: _comes(p, -1),
    bounce_on=_above,
    chase=_chases,
    cover=lambda p: np.abs(p.offset).max(-1) < 0.75,
    move_away_from=lambda p: _comes(p, 1),
    run_around=_circles,
    stand_next_to=_beside,
    swing_under=_below,
)
