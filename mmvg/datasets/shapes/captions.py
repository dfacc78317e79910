"""Captions whose phrases name several shapes of a scene, and say how they lie to each other."""

import random
from dataclasses import dataclass
from itertools import permutations

from .language import ATTRIBUTES, CLEAR_GAP, RELATIONS, describe, fits
from .scene import Scene, Shape

RELATION_NAMES = tuple(RELATIONS)


@dataclass(frozen=True)
class Caption:
    """A sentence about a scene.

    ``shapes``, ``phrases`` and ``spans`` (first word, one after the last) are in the order of the
    sentence; ``relations`` are (subject, object, name) by index; ``alone`` says of each phrase whether
    it would be understood without the rest.
    """

    text: str
    shapes: tuple[Shape, ...]
    phrases: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    relations: tuple[tuple[int, int, str], ...]
    alone: tuple[bool, ...]


def write_caption(rng: random.Random, scene: Scene) -> Caption | None:
    """'a red circle above a small square left of a triangle': true of one choice of shapes only.

    Each phrase names the kind of a shape and a random part of its attributes; each shape is related to
    the next. Returns None if no such sentence was found in a few tries.
    """
    for _ in range(10):
        chosen = rng.sample(scene.shapes, rng.randint(2, min(4, len(scene.shapes))))
        keys = [('kind', *rng.sample(ATTRIBUTES, rng.randint(0, 2))) for _ in chosen]
        names = [_relation(rng, scene, a, b) for a, b in zip(chosen, chosen[1:], strict=False)]
        if None in names or not _unambiguous(scene, chosen, keys, names):
            continue
        return _compose(scene, chosen, keys, names)
    return None


def _relation(rng: random.Random, scene: Scene, a: Shape, b: Shape) -> str | None:
    gap = CLEAR_GAP * scene.side
    holding = [name for name, offset in RELATIONS.items() if offset(a, b) >= gap]
    return rng.choice(holding) if holding else None


def _unambiguous(scene: Scene, chosen: list[Shape], keys: list, names: list[str]) -> bool:
    """Whether no other shapes fit the phrases and their relations, not even by a hair."""
    readings = 0
    for shapes in permutations(scene.shapes, len(chosen)):
        phrases_fit = all(map(fits, shapes, chosen, keys))
        pairs = zip(names, shapes, shapes[1:], strict=False)
        readings += phrases_fit and all(RELATIONS[n](a, b) > 0 for n, a, b in pairs)
    return readings == 1


def _compose(scene: Scene, chosen: list[Shape], keys: list, names: list[str]) -> Caption:
    words, spans, phrases = [], [], []
    for i, (shape, wanted) in enumerate(zip(chosen, keys, strict=True)):
        phrase = 'a ' + describe(shape, wanted)
        words += names[i - 1].split() if i else []
        spans.append((len(words), len(words) + len(phrase.split())))
        words += phrase.split()
        phrases.append(phrase)
    alone = [
        sum(fits(s, shape, wanted) for s in scene.shapes) == 1
        for shape, wanted in zip(chosen, keys, strict=True)
    ]
    relations = [(i, i + 1, name) for i, name in enumerate(names)]
    return Caption(
        ' '.join(words), tuple(chosen), tuple(phrases), tuple(spans), tuple(relations), tuple(alone)
    )
