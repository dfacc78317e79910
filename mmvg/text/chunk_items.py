"""What a caption is cut into."""

from dataclasses import dataclass

# Punctuation that ends a part of a sentence.
BREAKS = '.,;:!?'


@dataclass
class NounPhrase:
    """An entity of a caption: words ``start`` to ``end`` (exclusive).

    ``phrase`` is its number among the given phrases, None for one that a rule found. ``head`` is the
    lemma of its head noun.
    """

    start: int
    end: int
    phrase: int | None
    head: str
    plural: bool = False


@dataclass
class Item:
    """One step of a caption as the relation parser reads it.

    ``kind`` is NP, V (verb), AUX, P (preposition), TO (of an infinitive), AND, SUB (subordinator),
    REL (relative pronoun), POS ('s), ADV, ``,`` or ``.``; ``text`` is the canonical word, ``form``
    of a verb is ing, ed or finite, ``entity`` of an NP its number among the entities; ``end`` is one
    after its last word.
    """

    kind: str
    text: str
    form: str = ''
    entity: int = -1
    end: int = -1


@dataclass
class Token:
    """A word, or the punctuation that stuck to it; ``word`` is its number, ``phrase`` its owner's."""

    text: str
    word: int
    phrase: int | None = None
