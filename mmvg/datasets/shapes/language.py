"""Expressions that refer to exactly one shape of a scene."""

import random
from collections.abc import Callable, Sequence
from itertools import combinations

from .scene import COLOURS, KINDS, SIZES, TEXTURES, Scene, Shape

EXPRESSION_TYPES = ('attribute', 'location', 'ordering', 'relation')
# What a phrase may name beside the kind; adjectives stand in the reverse order.
ATTRIBUTES = ('colour', 'texture', 'size')

# Direction -> (key that grows towards it, phrases for the outermost shape)
_LOCATIONS = dict(
    left=(lambda s: -s.cx, ('left {}', 'leftmost {}', '{} on the left')),
    right=(lambda s: s.cx, ('right {}', 'rightmost {}', '{} on the right')),
    top=(lambda s: -s.cy, ('top {}', 'topmost {}', '{} at the top')),
    bottom=(lambda s: s.cy, ('bottom {}', 'lowest {}', '{} at the bottom')),
)
# Name -> by how much a is further in that direction than b.
RELATIONS = {
    'left of': lambda a, b: b.cx - a.cx,
    'right of': lambda a, b: a.cx - b.cx,
    'above': lambda a, b: b.cy - a.cy,
    'below': lambda a, b: a.cy - b.cy,
}

VOCABULARY = tuple(
    dict.fromkeys(
        (
            'the',
            'shape',
            *KINDS,
            *COLOURS,
            *TEXTURES,
            *SIZES,
            'left',
            'right',
            'top',
            'bottom',
            'leftmost',
            'rightmost',
            'topmost',
            'lowest',
            'on',
            'at',
            'of',
            'above',
            'below',
            'second',
            'from',
            'largest',
            'smallest',
            'object',
        )
    )
)


# Least difference of two coordinates, as a share of the side, for a location word to be beyond doubt.
CLEAR_GAP = 0.08


def _clear_gap(scene: Scene) -> float:
    return CLEAR_GAP * scene.side


def describe(shape: Shape, keys: Sequence[str]) -> str:
    """Noun phrase of ``shape`` that names the attributes ``keys``."""
    noun = shape.kind if 'kind' in keys else 'shape'
    return ' '.join([getattr(shape, k) for k in reversed(ATTRIBUTES) if k in keys] + [noun])


def fits(shape: Shape, named: Shape, keys: Sequence[str]) -> bool:
    """Whether a phrase that names the attributes ``keys`` of ``named`` is true of ``shape``."""
    return all(getattr(shape, k) == getattr(named, k) for k in keys)


def _matching(scene: Scene, named: Shape, keys: Sequence[str]) -> list[Shape]:
    return [s for s in scene.shapes if fits(s, named, keys)]


def _descriptions(rng: random.Random, most: int):
    """Attribute subsets, shorter ones first, at random within a length."""
    for length in range(most + 1):
        subsets = list(combinations(('kind', *ATTRIBUTES), length))
        rng.shuffle(subsets)
        yield from subsets


def _attribute(rng: random.Random, scene: Scene, target: Shape) -> str | None:
    """'the small red circle': attributes alone single the target out."""
    unique = [
        keys for keys in _descriptions(rng, 4) if keys and len(_matching(scene, target, keys)) == 1
    ]
    if not unique:
        return None
    # Mostly a shortest description, sometimes one with redundant words, as people give.
    keys = unique[0] if rng.random() < 0.7 else rng.choice(unique)
    return 'the ' + describe(target, keys)


def _location(rng: random.Random, scene: Scene, target: Shape) -> str | None:
    """'the leftmost circle': the outermost of the shapes that fit the description."""
    options = []
    for keys in _descriptions(rng, 1):
        rivals = [s for s in _matching(scene, target, keys) if s is not target]
        for key, phrases in _LOCATIONS.values():
            if rivals and key(target) - max(key(s) for s in rivals) >= _clear_gap(scene):
                options.append((keys, phrases))
    if not options:
        return None
    keys, phrases = rng.choice(options)
    return 'the ' + rng.choice(phrases).format(describe(target, keys))


def _ordering(rng: random.Random, scene: Scene, target: Shape) -> str | None:
    """'the largest shape', 'the second shape from the left': a rank among at least two or three."""
    options = []
    for keys in _descriptions(rng, 1):
        rivals = [s for s in _matching(scene, target, keys) if s is not target]
        name = describe(target, keys)
        if rivals and target.radius >= 1.25 * max(s.radius for s in rivals):
            options.append(f'the largest {name}')
        if rivals and 1.25 * target.radius <= min(s.radius for s in rivals):
            options.append(f'the smallest {name}')
        if len(rivals) < 2:
            continue
        for side, (key, _) in _LOCATIONS.items():
            ranked = sorted((key(s) for s in (*rivals, target)), reverse=True)
            gaps = (ranked[0] - ranked[1], ranked[1] - ranked[2])
            if key(target) == ranked[1] and min(gaps) >= _clear_gap(scene):
                options.append(f'the second {name} from the {side}')
    return rng.choice(options) if options else None


def _relation(rng: random.Random, scene: Scene, target: Shape) -> str | None:
    """'the circle left of the red square': of several that fit, a landmark decides."""
    gap = _clear_gap(scene)
    options = []
    for landmark in scene.shapes:
        keys = next(
            (
                k
                for k in _descriptions(rng, 3)
                if 'kind' in k and len(_matching(scene, landmark, k)) == 1
            ),
            None,
        )
        if landmark is target or keys is None:
            continue
        for relation, offset in RELATIONS.items():
            holds = [s for s in scene.shapes if s is not landmark and offset(s, landmark) >= gap]
            doubtful = [s for s in scene.shapes if 0 < abs(offset(s, landmark)) < gap]
            for own in ((), ('kind',), ('colour',)):
                fitting = _matching(scene, target, own)
                if [s for s in holds if s in fitting] == [target] and not any(
                    s in fitting for s in doubtful
                ):
                    options.append(
                        f'the {describe(target, own)} {relation} the {describe(landmark, keys)}'
                    )
    return rng.choice(options) if options else None


_MAKERS: tuple[Callable, ...] = (_attribute, _location, _ordering, _relation)


def refer_to(
    rng: random.Random, scene: Scene, target: Shape, types: Sequence[str] = EXPRESSION_TYPES
) -> tuple[str, str] | None:
    """An expression that fits ``target`` and no other shape of ``scene``.

    Args:
        types (Sequence[str]): Kinds of expression to choose from, with equal probability; a kind
            that cannot single the target out in this scene is passed over.

    Returns:
        tuple[str, str], optional: The expression and its type; None if no kind fits.
    """
    for kind in rng.sample(list(types), len(types)):
        text = _MAKERS[EXPRESSION_TYPES.index(kind)](rng, scene, target)
        if text is not None:
            return text, kind
    return None
