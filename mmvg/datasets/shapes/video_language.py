"""Sentences about a video: true of one pair of shapes and one stretch of time only."""

import random
from dataclasses import dataclass

import numpy as np

from .language import ATTRIBUTES, describe, fits
from .scene import Shape
from .video import Event, Video
from .video_relations import PREDICATES

# Frames in which another pair may look alike by chance, as a share of the video.
_CHANCE = 0.1


@dataclass(frozen=True)
class Sentence:
    """What is said of the event of a video.

    ``target`` is the shape in question; ``alone`` says whether its phrase fits no other shape ('what'
    fits all).
    """

    text: str
    type: str
    target: int
    alone: bool


def write_sentences(rng: random.Random, video: Video, questions: int) -> list[Sentence] | None:
    """A caption and up to two questions, in the manner of VidSTG; None if not all could be clear.

    Phrases name the kind of a shape and a random part of its attributes, drawn anew per sentence.
    """
    # Whether the sentence could mean these two, going by what they do.
    event = video.event
    rivals = video.holding(event.predicate).mean(-1) > _CHANCE
    rivals[event.subject, event.target] = False
    asked = rng.sample(('subject', 'target'), questions)
    sentences = [_write(rng, video, rivals, wh) for wh in (None, *asked)]
    return None if None in sentences else sentences


def _write(rng: random.Random, video: Video, rivals: np.ndarray, wh: str | None) -> Sentence | None:
    roles = _roles(video.event)
    for _ in range(10):
        keys = {role: ('kind', *rng.sample(ATTRIBUTES, rng.randint(0, 2))) for role in roles}
        fitting = {
            role: _fitting(video, index, () if role == wh else keys[role])
            for role, index in roles.items()
        }
        if not rivals[np.ix_(fitting['subject'], fitting['target'])].any():
            asked = wh or 'subject'
            kind = 'interrogative' if wh else 'declarative'
            alone = len(fitting[asked]) == 1
            return Sentence(_compose(video, keys, wh), kind, roles[asked], alone)
    return None


def _roles(event: Event) -> dict[str, int]:
    return dict(subject=event.subject, target=event.target)


def _fitting(video: Video, index: int, keys: tuple[str, ...]) -> list[int]:
    """Shapes that share the attributes ``keys`` of shape ``index``."""
    named = video.shapes[index]
    return [i for i, s in enumerate(video.shapes) if fits(s, named, keys)]


def _phrase(shape: Shape, keys: tuple[str, ...]) -> str:
    # In a sentence about what happens, a square may be taken for the place of that name.
    return describe(shape, keys).replace('square', 'box')


def _compose(video: Video, keys: dict[str, tuple[str, ...]], wh: str | None) -> str:
    event = video.event
    third, infinitive = PREDICATES[event.predicate]
    subject, target = (
        'a ' + _phrase(video.shapes[index], keys[role]) for role, index in _roles(event).items()
    )
    if wh == 'subject':
        return f'what {third} {target}?'
    if wh == 'target':
        return f'what does {subject} {infinitive}?'
    if subject == target:
        target = 'another' + target[1:]
    return f'{subject} {third} {target}.'
