"""SceneGraphParser with spaCy behind the interface of our own relation parser; both are optional."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import lexicon
from .lemmatizer import lemmatize_verb
from .relation_parser import PREPOSITIONS, Relation, RuleRelationParser

Span = tuple[int, int]


class SceneGraphRelationParser:
    """Relations of ``sng_parser`` (the parser that ReIR used), aligned with given phrases.

    An entity of its graph stands for the phrase with which it shares most words, if its head word is
    one of them; relations whose ends stand for the same phrase or for none are dropped (spec reir
    1.7).

    Args:
        model (str): spaCy model, as ``spacy.load`` takes it.
        parse (Callable, optional): Graph of a sentence; ``sng_parser``'s by default.

    Raises:
        ImportError: If SceneGraphParser, spaCy or the model is not installed.
    """

    def __init__(
        self, model: str = 'en_core_web_sm', parse: Callable[[str], dict[str, Any]] | None = None
    ) -> None:
        self._parse = _import_parser(model) if parse is None else parse

    def __call__(self, caption: str, spans: Sequence[Span]) -> list[Relation]:
        """As :meth:`RuleRelationParser.__call__`."""
        words = caption.split()
        graph = self._parse(caption)
        phrases = [_align(*entity, spans) for entity in _locate(graph['entities'], words)]
        found = {}
        for relation in graph['relations']:
            ends = phrases[relation['subject']], phrases[relation['object']]
            if None not in ends and ends[0] != ends[1]:
                found[Relation(*ends, canonical(relation['relation']))] = None
        return list(found)


def _import_parser(model: str) -> Callable[[str], dict[str, Any]]:
    try:
        import sng_parser

        return sng_parser.Parser('spacy', model=model).parse
    except ImportError as e:
        raise ImportError(
            f'SceneGraphParser cannot be used ({e}): pip install SceneGraphParser spacy, then python '
            f'-m spacy download {model}; or take the rules, which need nothing'
        ) from e


def canonical(text: str) -> str:
    """Base form of a relation as it is written: 'is sitting on' -> 'sit on'."""
    written = text.lower().split()
    words = [w for w in written if w not in lexicon.AUXILIARIES] or written
    if ' '.join(words) in PREPOSITIONS or tuple(words) in lexicon.COMPOUND_PREPOSITIONS:
        return lexicon.COMPOUND_PREPOSITIONS.get(tuple(words), ' '.join(words))
    verb, rest = lemmatize_verb(words[0]), tuple(words[1:])
    return f'{verb} {lexicon.COMPOUND_PREPOSITIONS.get(rest, " ".join(rest))}'.rstrip()


def _locate(entities: list[dict[str, Any]], words: list[str]) -> Iterator[tuple[int, int, int]]:
    """First word, one after the last, and head word of each entity, counted in words.

    spaCy counts tokens of its own; the text of an entity is found again behind the previous one.
    """
    text = ' '.join(words)
    starts, position = {}, 0
    for number, word in enumerate(words):
        starts.update(dict.fromkeys(range(position, position + len(word) + 1), number))
        position += len(word) + 1
    cursor = 0
    for entity in entities:
        begin = text.find(entity['span'], cursor)
        if begin < 0:
            yield 0, 0, -1
            continue
        end = begin + len(entity['span'])
        head = begin + entity['span'].rfind(entity['head'].split()[-1])
        yield starts[begin], starts[end - 1] + 1, starts[max(head, begin)]
        cursor = end


def _align(start: int, end: int, head: int, spans: Sequence[Span]) -> int | None:
    """The phrase that an entity stands for; of equals the shorter one."""
    shared = {
        number: (min(end, last) - max(start, first), first - last)
        for number, (first, last) in enumerate(spans)
        if first <= head < last
    }
    return max(shared, key=shared.get, default=None)


def build_relation_parser(name: str, model: str = 'en_core_web_sm') -> Callable:
    """``'rules'`` or ``'scene_graph'``; both take a caption and spans and give relations."""
    if name == 'rules':
        return RuleRelationParser()
    if name == 'scene_graph':
        return SceneGraphRelationParser(model)
    raise ValueError(f"relation parser must be 'rules' or 'scene_graph', not {name!r}")
