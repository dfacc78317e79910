"""Sentences about a video as small scene graphs: entities, relations, and which entity is sought."""

import functools
import re
from collections.abc import Callable

from . import lexicon
from .lemmatizer import lemmatize_verb
from .query_graph import ParsedQuery, QueryGraph
from .questions import UNKNOWN, state
from .scene_graph_parser import build_relation_parser
from .spelling import correct_spelling

_TOKENS = re.compile(r"[^\W_]+(?:['-][^\W_]+|\.\d+)*|[.,;:!?]")
_OPEN_AIR = dict(outdoor='outdoors', outdoors='outdoors', indoor='indoors', indoors='indoors')
# What a pronoun stands for where nothing was said before.
_WHO = dict(
    he='man', she='woman', they='people', someone='person', somebody='person', it='object',
    something='object',
)  # fmt: skip
_BETWEEN = lexicon.PREPOSITIONS | lexicon.CONJUNCTIONS | lexicon.SUBORDINATORS | lexicon.ADVERBS
_WOMEN = dict(women='woman', men='man')


class QueryParser:
    """Entities, relations and target of a sentence about a video (spec vcma 1.3).

    The target of a statement is its subject, or what 'there is'. That of a question is what it asks
    for, be it subject ('who holds a cup') or object ('what does a child hold'). Relations come from
    the words alone. Colours, clothes and hair that somebody wears, and the side on which something
    is, are no entities but part of a phrase: no other tube could show them. Every sentence has at
    least one entity; it may have no relation. Pronouns are not resolved::

        >>> QueryParser()('what does a child in red hold in a room?')
        ParsedQuery(entities=(Entity('object', 'object', (), 'wh'),
                              Entity('child in red', 'child', ('in red',), 'subject'),
                              Entity('room', 'room', (), 'scene')),
                    relations=(QueryRelation(1, 'hold', 0, 'verb'),
                               QueryRelation(1, 'in', 2, 'prep')),
                    target=0, qtype='interrogative')

    Args:
        relations (str): ``'rules'``, which need nothing, or ``'scene_graph'`` for the relations of
            SceneGraphParser between the entities that the rules find; it gives no verbs without an
            object.
        model (str): spaCy model of ``'scene_graph'``.

    Raises:
        ImportError: If ``'scene_graph'`` is wanted and not installed.
    """

    def __init__(self, relations: str = 'rules', model: str = 'en_core_web_sm') -> None:
        self._engine = None if relations == 'rules' else build_relation_parser(relations, model)

    def __call__(self, text: str) -> ParsedQuery:
        """Parse a sentence.

        Raises:
            ValueError: If it has no word.
        """
        if self._engine is None:
            return _parse_by_rule(text)
        return _parse(text, self._engine)


@functools.lru_cache(maxsize=1 << 17)  # training meets every sentence once per epoch
def _parse_by_rule(text: str) -> ParsedQuery:
    return _parse(text)


def _parse(text: str, engine: Callable | None = None) -> ParsedQuery:
    if not has_word(text):
        raise ValueError(f'the query {text!r} has no word; remove it, or say what is to be found')
    words = normalise(text)
    asked = words[1:2] if words[0] in lexicon.PREPOSITIONS else words[:1]
    asks = words[-1] == '?' or bool(UNKNOWN.keys() & set(asked))
    return QueryGraph(state(words), engine).build('interrogative' if asks else 'declarative')


def has_word(text: str) -> bool:
    """Whether there is something to parse: a letter or a digit."""
    return any(map(str.isalnum, text))


def normalise(text: str) -> list[str]:
    """Words and punctuation of a sentence, in lower case, spelled right and completed."""
    text = text.lower().replace('’', "'")
    outside = re.sub(r'\([^)]*\)', ' ', text)
    text = outside if has_word(outside) else text  # '(a man)' says nothing else
    text = re.sub(r'([^\W_]+)/\w+( \1\b)?', r'\1', text)  # 'ball/sports ball'
    words = correct_spelling(_TOKENS.findall(text))
    if words and words[0] in ("who's", "what's"):
        words[:1] = [words[0][:-2], 'is']
    words[:1] = [_WHO.get(word, word) for word in words[:1]]
    complete: list[str] = []
    for i, word in enumerate(words):
        if word in _OPEN_AIR and _is_place(words, i):
            complete += ['in', _OPEN_AIR[word]]
        elif word == 'away' and _lacks_from(words, i):
            complete += ['away', 'from']
        elif word in _WOMEN and {'a', 'an'} & set(words[max(i - 2, 0) : i]):
            complete.append(_WOMEN[word])  # 'an adult women'
        else:
            complete.append(word)
    return complete


def _is_place(words: list[str], i: int) -> bool:
    """Whether 'outdoors' stands for 'in the open'."""
    # 'comes from outdoors', but 'what is the child away from outdoors'
    before = {'in', 'the'} if words[0] in UNKNOWN else lexicon.PREPOSITIONS | {'the'}
    return not _opens_phrase(words[i + 1 : i + 2]) and words[i - 1] not in before


def _lacks_from(words: list[str], i: int) -> bool:
    """'a child is away another child', 'who is a child away'; not 'goes away quickly'."""
    if words[i + 1 : i + 2] == ['from']:
        return False
    opens = _opens_phrase(words[i + 1 : i + 2])
    state_asked = words[0] in UNKNOWN and words[1] in ('is', 'are', 'was', 'were')
    verb = lemmatize_verb(words[i - 1])
    moves = verb not in (words[i - 1], 'be') and verb in lexicon.VERBS  # 'throws away a bag'
    return (state_asked or opens) and not moves


def _opens_phrase(words: list[str]) -> bool:
    return any(w[0].isalnum() and w not in _BETWEEN and not w.endswith('ly') for w in words)
