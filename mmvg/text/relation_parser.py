"""Relations between the phrases of a caption: the parser that needs nothing but this package."""

from collections.abc import Sequence
from typing import NamedTuple

from . import lexicon
from .chunk_items import NounPhrase
from .chunks import cut
from .relation_rules import Linker

PREPOSITIONS = lexicon.PREPOSITIONS | set(lexicon.COMPOUND_PREPOSITIONS.values())


class Relation(NamedTuple):
    """``subject`` and ``object`` are numbers of phrases, ``text`` is canonical: 'ride', 'sit on'."""

    subject: int
    object: int
    text: str


class RuleRelationParser:
    """Finds by rule which phrases of a caption are related, and how (spec reir 1.7).

    No model and no download. The rules are those of :mod:`mmvg.text.relation_rules`::

        >>> RuleRelationParser()('a man in red shirt rides a bike', [(0, 2), (3, 5), (6, 8)])
        [Relation(0, 1, 'in'), Relation(0, 2, 'ride')]
    """

    def __call__(self, caption: str, spans: Sequence[tuple[int, int]]) -> list[Relation]:
        """Relations between the given phrases.

        Args:
            caption (str): Words are what lies between spaces.
            spans (Sequence): First word and one after the last of each phrase. Of phrases that
                overlap, the longest takes part and the others have no relations.

        Returns:
            list[Relation]: In the order of the caption, each once; none links a phrase to itself.

        Raises:
            ValueError: If a span is empty or not within the caption.
        """
        entities, relations = self.parse(caption, spans)
        phrases = [entity.phrase for entity in entities]
        found = [Relation(phrases[r.subject], phrases[r.object], r.text) for r in relations]
        return [r for r in found if r.subject is not None and r.object is not None]

    def parse(
        self, caption: str, spans: Sequence[tuple[int, int]] | None = None
    ) -> tuple[list[NounPhrase], list[Relation]]:
        """All entities, given or found by rule, and relations between their numbers."""
        items, entities = cut(caption, spans)
        return entities, [Relation(*link) for link in Linker(items, entities).run()]


def components(text: str) -> list[str]:
    """A canonical relation and its verb and preposition: 'sit on' -> 'sit on', 'sit', 'on'."""
    verb, _, preposition = text.partition(' ')
    if text in PREPOSITIONS or not preposition:
        return [text]
    return [text, verb, preposition]
