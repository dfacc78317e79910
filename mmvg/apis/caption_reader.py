"""Captions as users write them, as records for models that ground all phrases of a caption."""

import re
from collections.abc import Callable

from mmvg.text import lexicon
from mmvg.text.chunks import cut
from mmvg.text.relation_parser import Relation, RuleRelationParser

_MARKS = '[]'
# Data sets write captions with spaces around punctuation; inside of numbers and words it stays.
_TOKENS = re.compile(r"[\[\]]|[.,;:!?\"()]+(?!\w)|(?<!\w)[\"(]+|['’]s\b")


class CaptionReader:
    """Finds the phrases of a caption, and their relations.

    Phrases may be marked with brackets, ``'[a man] rides [a bike]'``, also a text as a whole,
    ``'[man on the left]'``. In a caption without brackets noun phrases are found by rule, pronouns left
    out.

    Args:
        parse (Callable, optional): Relations of a caption and the spans of its phrases; by rule.
        find_phrases (bool): False: a text without brackets is one phrase.
    """

    def __init__(
        self, parse: Callable[..., list[Relation]] | None = None, find_phrases: bool = True
    ) -> None:
        self.parse = parse or RuleRelationParser()
        self.find_phrases = find_phrases

    def __call__(self, text: str) -> dict:
        """``caption``, ``queries``, ``query_spans`` and ``relations`` of a record.

        Raises:
            ValueError: If brackets do not match, or there is no phrase.
        """
        words, spans = _read_marks(text)
        if not words:
            raise ValueError(f'text {text!r} has no word')
        caption = ' '.join(words)
        if spans is None:
            spans = _find_phrases(caption) if self.find_phrases else [(0, len(words))]
        if not spans:
            raise ValueError(
                f'no phrase was found in {text!r}; mark those to look for: "[a man] rides [a bike]"'
            )
        relations = self.parse(caption, spans)
        return dict(
            caption=caption,
            queries=[' '.join(words[start:end]) for start, end in spans],
            query_spans=spans,
            # Categories teach; where boxes are looked for, relations count whatever they are called.
            relations=[(r.subject, r.object, r.text, []) for r in relations],
            source=f'text {text!r}',
        )


def _read_marks(text: str) -> tuple[list[str], list[tuple[int, int]] | None]:
    """Words, and the spans between brackets; None if there are no brackets."""
    words, spans, start = [], [], None
    for token in _TOKENS.sub(lambda match: f' {match[0]} ', text).split():
        if token not in _MARKS:
            words.append(token)
        elif (token == '[') != (start is None) or (token == ']' and start == len(words)):
            raise ValueError(
                f'{text!r}: every [ needs a ] behind it with words in between, and phrases within '
                'phrases cannot be marked'
            )
        elif token == '[':
            start = len(words)
        else:
            spans.append((start, len(words)))
            start = None
    if start is not None:
        raise ValueError(f'{text!r}: a [ has no ] behind it')
    return words, spans or None


def _find_phrases(caption: str) -> list[tuple[int, int]]:
    words = caption.lower().split()
    _, entities = cut(caption)
    return [
        (entity.start, entity.end)
        for entity in entities
        if any(word not in lexicon.PRONOUNS for word in words[entity.start : entity.end])
    ]
