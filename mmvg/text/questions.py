"""Turns a question into the statement whose unknown it asks for."""

from collections.abc import Container
from dataclasses import dataclass, field, replace

from . import lexicon
from .chunk_items import Item
from .chunks import cut
from .lemmatizer import lemmatize_noun, lemmatize_verb
from .query_links import merge_hands

# What stands for the unknown, as a text encoder may read it (spec vcma 1.3).
UNKNOWN = {
    'who': 'person',
    'whom': 'person',
    'whose': 'person',
    'what': 'object',
    'which': 'object',
}
_DO = ('does', 'do', 'did')
_NO_NOUN = (
    lexicon.AUXILIARIES
    | lexicon.PREPOSITIONS
    | lexicon.CONJUNCTIONS
    | lexicon.SUBORDINATORS
    | lexicon.RELATIVES
    | set('.,;:!?')
)

# Adjectives that end a phrase: 'in red', 'on the left'.
_NAMES = lexicon.COLOURS | {'left', 'right'}


@dataclass
class Statement:
    """A sentence in the order of a statement.

    Attributes:
        words (list[str]): ``'the child holds object in a room'``.
        unknown (tuple, optional): First word and one after the last of what is asked for.
        verbs (Container[int]): Words that are finite verbs, whatever they look like.
        turned (bool): What is asked for looks like the subject, but is what it is done to: 'what is
            leaned on by a child'.
    """

    words: list[str]
    unknown: tuple[int, int] | None = None
    verbs: Container[int] = field(default_factory=tuple)
    turned: bool = False


def state(words: list[str]) -> Statement:
    """A sentence as a statement.

    Args:
        words (list[str]): In lower case, punctuation apart; at least one.
    """
    preposition = []
    if words[0] in lexicon.PREPOSITIONS and words[1:2] and words[1] in UNKNOWN:
        preposition, words = words[:1], words[1:]  # 'to whom does a man speak'
    if words[0] in _DO and words[1:2] and words[1].isalnum():
        verb = _infinitive(words[1:])
        return Statement(words[1:], verbs=() if verb is None else (verb,))
    if words[0] not in UNKNOWN:
        return Statement(words)
    unknown, rest = _unknown(words)
    end = len(unknown)
    place, verbs = None, ()
    if rest[:1] and rest[0] in _DO:
        rest = rest[1:]
        verb = _infinitive(rest)
        verbs = () if verb is None else (verb,)
        place = _place(merge_hands(*cut(' '.join(rest), verbs=verbs)))
    if place is None:
        items = merge_hands(*cut(' '.join(unknown + rest), [(0, end)]))
        if [item.kind for item in items[1:3]] == ['AUX', 'NP']:
            rest, place = _uninvert(rest, [replace(i, end=i.end - end - 1) for i in items[2:]])
        if place is None:
            return _asking_for_subject(unknown + rest, end, items)
    words = rest[:place] + preposition + unknown + rest[place:]
    start = place + len(preposition)
    return Statement(words, (start, start + end), verbs)


def _unknown(words: list[str]) -> tuple[list[str], list[str]]:
    """The phrase that asks, with a noun in the place of 'who' and 'what', and the words behind it."""
    end = 1
    if words[0] in ('which', 'what'):
        while end < len(words) and _may_be_noun(words, end):
            end += 1
    if end > 1:
        return ['the', *words[1:end]], words[end:]
    return [UNKNOWN[words[0]]], words[1:]


def _may_be_noun(words: list[str], i: int) -> bool:
    """Whether a word behind 'which' belongs to its phrase: 'which red car', not 'what kicks'."""
    if words[i] in _NO_NOUN or words[i] in lexicon.DETERMINERS or words[i] in lexicon.ADVERBS:
        return False
    if any(tuple(words[i : i + n]) in lexicon.COMPOUND_PREPOSITIONS for n in (2, 3, 4)):
        return False  # 'what next to the child'
    verb = lemmatize_verb(words[i])
    third_person = verb != words[i] and verb in lexicon.VERBS
    # Of an unknown word behind 'what', a plural is less likely than a verb.
    unknown = words[0] == 'what' and i == 1 and words[i].endswith('s')
    return not third_person and not unknown


def _infinitive(words: list[str]) -> int | None:
    """Where the verb stands behind 'does': 'the man in white HOLD a cup'."""
    candidates = [i for i in range(1, len(words)) if _may_be_infinitive(words, i)]
    for i in candidates:
        if i + 1 not in candidates:  # of 'suit press', the second
            return i
    # A verb that the lexicon lacks ends the first run of words that are long enough for both.
    start = 0
    for i in range(len(words) + 1):
        if i == len(words) or words[i] in _NO_NOUN:
            run = [w for w in words[start:i] if w not in lexicon.DETERMINERS]
            if len(run) > 1:
                return i - 1
            start = i + 1
    return None


def _may_be_infinitive(words: list[str], i: int) -> bool:
    word, before = words[i], words[i - 1]
    if word not in lexicon.VERBS or before in lexicon.DETERMINERS:
        return False
    adjective = before in lexicon.ADJECTIVES and before not in _NAMES
    adjective = adjective and (words[i - 2] in _NO_NOUN or words[i - 2] in lexicon.DETERMINERS)
    clothing = before in lexicon.ADJECTIVES and lemmatize_noun(word) in lexicon.CLOTHING
    return not (adjective or clothing or before in _NO_NOUN)


def _uninvert(words: list[str], items: list[Item]) -> tuple[list[str], int | None]:
    """'is a child above in the room' in the order of a statement, and where its gap is.

    Args:
        words (list[str]): The auxiliary first.
        items (list[Item]): Of the words behind it, their ends counted from there.
    """
    auxiliary, rest = words[:1], words[1:]
    place = _place(items)
    for before, item in zip(items, items[1:]):
        if item.end == place and item.kind == 'P' and before.kind != 'V':
            return rest[: before.end] + auxiliary + rest[before.end :], place + 1
    return rest, place


def _place(items: list[Item]) -> int | None:
    """Where what is asked for belongs: behind so many words."""
    pairs = list(zip(items, [*items[1:], Item('.', '.')]))
    for item, following in pairs:
        if item.kind == 'P' and following.kind not in ('NP', 'V'):
            return item.end  # 'the child above in the room'
    verbs = [item for item, following in pairs if item.kind == 'V' and following.kind != 'NP']
    if not verbs:
        return None
    # Of 'a child sitting on a stool pat' the finite one, of 'sitting on a stool holding' the last.
    verb = next((item for item in verbs if item.form == 'finite'), verbs[-1])
    return verb.end


def _asking_for_subject(words: list[str], end: int, items: list[Item]) -> Statement:
    """'what holds a cup', and 'what is leaned on by a child'."""
    for item, following in zip(items, items[1:]):
        if item.kind == 'NP' and item is not items[0]:
            break
        verb = item.kind == 'V' and item.form == 'finite' and item.text not in lexicon.INTRANSITIVE
        if (verb or item.kind == 'P') and (following.kind, following.text) == ('P', 'by'):
            by = following.end - 1
            return Statement(words[:by] + words[by + 1 :], (0, end), turned=True)
    return Statement(words, (0, end))
