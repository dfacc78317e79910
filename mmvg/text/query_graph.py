"""The entities of a statement about a video, and the relations between them."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from . import lexicon
from .chunk_items import Item
from .chunks import cut, head_position
from .lemmatizer import lemmatize_noun
from .query_links import SCENES, SIDES, Link, QueryLinker, merge_hands, split_places
from .questions import Statement
from .relation_parser import PREPOSITIONS

_ARTICLES = ('a', 'an', 'the')
# What they join belongs to the look of its owner.
_WORN = frozenset(('in', 'with', 'without', 'wear', 'dress in'))
_CLOTHES = lexicon.CLOTHING | lexicon.COLOURS
_NO_THINGS = lexicon.DETERMINERS | lexicon.PRONOUNS
_LINKING = lexicon.RELATIVES | lexicon.AUXILIARIES | {',', '.'}
_ADJECTIVES = lexicon.ADJECTIVES | lexicon.COLOURS | lexicon.DETERMINERS | {'and'}
_WHERE = frozenset('in on at inside outside near by along across through around'.split())
# Adjectives that name a thing where they stand last: 'street light', 'on the left'.
_ALSO_NOUNS = frozenset(
    'light metal plastic brick concrete stone orange gold silver male female left right'.split()
)


class Entity(NamedTuple):
    """One thing that a sentence is about.

    Attributes:
        text (str): The phrase with what the thing wears and on which side it is, without article:
            'child in white clothes', 'another adult', 'cup on the left'. 'person' or 'object' for
            'who' and 'what'.
        head (str): Its noun as a lemma, compounds whole: 'child', 'sports ball', 'adult man'.
        attrs (tuple[str]): Its adjectives and what it wears: 'young', 'in white clothes'.
        role (str): 'subject', 'object', 'scene' (a place) or 'wh' (what is asked for).
    """

    text: str
    head: str
    attrs: tuple[str, ...]
    role: str


class QueryRelation(NamedTuple):
    """What ``subject`` does, or is, to ``object`` (numbers of entities).

    Attributes:
        subject (int): Who does it.
        predicate (str): Lemma and particle: 'hold', 'lean_on', 'in_front_of'.
        object (int, optional): None where there is none: 'a child runs'.
        kind (str): 'verb', 'prep', or 'attr' ('the dog is wet').
    """

    subject: int
    predicate: str
    object: int | None
    kind: str


class ParsedQuery(NamedTuple):
    """A sentence: ``entities[target]`` is to be found; qtype is 'declarative' or 'interrogative'."""

    entities: tuple[Entity, ...]
    relations: tuple[QueryRelation, ...]
    target: int
    qtype: str


class QueryGraph:
    """Builds the graph of one statement.

    Args:
        statement (Statement): The sentence.
        engine (Callable, optional): Gives relations from a caption and spans, as
            :class:`~mmvg.text.SceneGraphRelationParser` does; the rules by default.
    """

    def __init__(self, statement: Statement, engine: Callable | None = None) -> None:
        self.words = statement.words
        caption = ' '.join(self.words)
        spans = None if statement.unknown is None else [statement.unknown]
        items, self.phrases = cut(caption, spans, statement.verbs)
        while items and items[-1].kind in ('.', ','):
            items.pop()
        self.unknown = next((i for i, p in enumerate(self.phrases) if p.phrase is not None), None)
        self.said: list[Link] = []  # what is said of somebody: 'is a cook'
        self.items = merge_hands(self._without_complements(items), self.phrases)
        if engine is None:
            links = QueryLinker(self.items, self.phrases).run()
        else:
            links = list(map(tuple, engine(caption, [(p.start, p.end) for p in self.phrases])))
        if statement.turned:
            links = _turn(links, self.unknown)
        self.owner: dict[int, int] = {}  # of what is folded into the phrase of an entity
        self.links = self._fold(split_places(links, self.phrases))

    def _without_complements(self, items: list[Item]) -> list[Item]:
        """'the dog is wet': what stands behind 'is' is no entity."""
        kept: list[Item] = []
        subject = None
        for i, item in enumerate(items):
            before = [other.kind for other in items[max(i - 2, 0) : i]]
            said = before[-1:] == ['AUX'] and before[0] != 'ADV'  # not 'and there is a dog'
            if item.kind == 'NP' and said and subject is not None:
                self.said.append((subject, None, self._head(item.entity)[0]))
                continue
            if item.kind == 'NP' and before[-1:] != ['P'] and subject is None:
                subject = item.entity
            kept.append(item)
        return kept

    # --- what belongs to the look of an entity

    def _fold(self, links: Iterable[Link]) -> list[Link]:
        """Make what somebody wears part of their phrase; links of it become theirs."""
        kept: list[Link] = []
        for subject, obj, text in links:
            if obj is None or not self._is_look(obj, text) or subject in self._owners(obj):
                kept.append((subject, obj, text))
            elif obj not in self.owner:
                self.owner[obj] = subject
                if text not in _WORN | PREPOSITIONS:  # 'stands on the left'
                    kept.append((subject, None, text.split()[0]))
        return [(self._root(s), o if o is None else self._root(o), t) for s, o, t in kept]

    def _is_look(self, number: int, text: str) -> bool:
        head = self.phrases[number].head
        if number == self.unknown:
            return False
        if head in SIDES:
            return text.rpartition(' ')[2] in ('on', 'at', 'to')
        part = text != 'in' and head in lexicon.BODY_PARTS  # not 'in her arms'
        look = part or head in _CLOTHES or head.endswith('-hair')
        return text == 'wear' or (text in _WORN and look)

    def _owners(self, number: int) -> list[int]:
        """An entity, what it is folded into, and so on."""
        owners = [number]
        while owners[-1] in self.owner:
            owners.append(self.owner[owners[-1]])
        return owners

    def _root(self, number: int) -> int:
        return self._owners(number)[-1]

    def _words(self, number: int) -> list[str]:
        """The words of an entity without what is folded into it; of "child's", child."""
        phrase = self.phrases[number]
        return [w.removesuffix("'s") for w in self.words[phrase.start : phrase.end]]

    def _piece(self, number: int) -> list[str]:
        """The words of what is folded, with what joins it: 'wearing a red hat'."""
        start, end = self.phrases[number].start, self.phrases[number].end
        before = max((p.end for p in self.phrases if p.end <= start), default=start)
        return [w for w in self.words[before:end] if w not in _LINKING]

    # --- output

    def build(self, qtype: str) -> ParsedQuery:
        """Entities in the order of the text, what is asked for first."""
        order = [item.entity for item in self.items if item.kind == 'NP']
        order = [n for n in order if n not in self.owner and self._is_thing(n)]
        if not order:
            return self._without_entities(qtype)
        if self.unknown in order:
            order.sort(key=lambda n: n != self.unknown)
        target = order[0] if self.unknown in order else self._subject(order)
        index = {n: i for i, n in enumerate(order)}
        relations = self._relations(index)
        entities = tuple(self._entity(n, i, relations, n == target) for n, i in index.items())
        return ParsedQuery(entities, relations, index[target], qtype)

    def _is_thing(self, number: int) -> bool:
        """Whether it is more than 'it', 'her' or 'each other'."""
        words = self._words(number)
        return any(w not in _NO_THINGS for w in words)

    def _subject(self, order: list[int]) -> int:
        """The subject of the sentence: the first thing that no preposition puts elsewhere."""
        for before, item, behind in zip([None, *self.items], self.items, [*self.items[1:], None]):
            behind_preposition = before is not None and before.kind == 'P'
            owns = behind is not None and behind.kind == 'POS'  # "a child's toy"
            if item.entity in order and not behind_preposition and not owns:
                return item.entity
        return order[0]

    def _relations(self, index: dict[int, int]) -> tuple[QueryRelation, ...]:
        relations = []
        for subject, obj, text in self.links:
            kind = 'prep' if text in PREPOSITIONS else 'verb'
            known = obj is None or obj in index
            if subject in index and subject != obj and (known or kind == 'verb'):
                number = index.get(obj)
                relations.append(
                    QueryRelation(index[subject], text.replace(' ', '_'), number, kind)
                )
        for subject, _, text in self.said:
            if subject in index:
                predicate = text.replace(' ', '_')
                relations.append(QueryRelation(index[subject], predicate, None, 'attr'))
        return tuple(dict.fromkeys(relations))

    def _entity(
        self, number: int, i: int, relations: tuple[QueryRelation, ...], is_target: bool
    ) -> Entity:
        parts = [n for n in sorted(self.owner) if self._root(n) == number]
        pieces = [self._piece(n) for n in parts]
        words = [*self._words(number), *(w for piece in pieces for w in piece)]
        head, adjectives = self._head(number)
        worn = [' '.join(w for w in piece if w not in (*_ARTICLES, 'and')) for piece in pieces]
        role = self._role(number, i, relations, is_target)
        return Entity(' '.join(_without_article(words)), head, (*adjectives, *worn), role)

    def _role(
        self, number: int, i: int, relations: tuple[QueryRelation, ...], is_target: bool
    ) -> str:
        if number == self.unknown:
            return 'wh'
        if is_target:
            return 'subject'
        given = [r for r in relations if r.object == i]
        placed = any(r.predicate.rpartition('_')[2] in _WHERE for r in given)
        if placed and self.phrases[number].head in SCENES:
            return 'scene'
        acts = any(r.subject == i for r in relations)
        return 'subject' if acts and not given else 'object'

    def _head(self, number: int) -> tuple[str, tuple[str, ...]]:
        """The noun of a phrase with the nouns before it, and its adjectives."""
        words = self._words(number)
        last = head_position(words)
        first = 0
        if 'of' in words[:last]:  # 'a group of young men'
            first = last - words[last::-1].index('of') + 1
        nouns = [i for i in range(first, last + 1) if not _is_adjective(words[i])]
        if nouns and words[last] not in _ALSO_NOUNS:
            last = nouns[-1]  # 'the toy red and yellow'
        start = last
        while start > first and not _is_adjective(words[start - 1]):
            start -= 1
        noun = ' '.join([*words[start:last], lemmatize_noun(words[last])])
        others = words[first:start] + words[last + 1 :]
        return noun, tuple(w for w in others if w != 'and' and w not in lexicon.DETERMINERS)

    def _without_entities(self, qtype: str) -> ParsedQuery:
        """'running': the sentence itself is what it is about."""
        words = [w for w in self.words if w[0].isalnum()]
        entity = Entity(' '.join(words), lemmatize_noun(words[-1]), (), 'subject')
        verbs = [item.text.replace(' ', '_') for item in self.items if item.kind == 'V']
        relations = tuple(QueryRelation(0, verb, None, 'verb') for verb in dict.fromkeys(verbs))
        return ParsedQuery((entity,), relations, 0, qtype)


def _turn(links: list[Link], unknown: int | None) -> list[Link]:
    """Make what is asked for the object of the first link in which it is the subject."""
    for i, (subject, obj, text) in enumerate(links):
        if subject == unknown and obj is not None:
            return [*links[:i], (obj, subject, text), *links[i + 1 :]]
    return links


def _is_adjective(word: str) -> bool:
    """Whether a word before a noun describes it, rather than be a part of its name."""
    participle = word.endswith('ed') and word not in lexicon.NOUNS_IN_ED
    return word in _ADJECTIVES or participle or '-' in word or word.isdigit()


def _without_article(words: list[str]) -> list[str]:
    start = 0
    while start < len(words) - 1 and words[start] in _ARTICLES:
        start += 1
    return words[start:]
