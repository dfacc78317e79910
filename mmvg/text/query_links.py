"""Who does what in a statement about a video, where a verb need not have an object."""

from collections.abc import Iterable, Iterator

from . import lexicon
from .chunk_items import Item, NounPhrase
from .relation_parser import PREPOSITIONS
from .relation_rules import Linker, Verb

Link = tuple[int, int | None, str]  # numbers of subject and object, canonical text

# With these a hand is no thing of its own: 'holds the hand of a child' holds the child.
_BY_HAND = {('hold', 'of'), ('hold', 'with'), ('shake', 'with'), ('wave', 'to'), ('wave', 'at')}
# Before another verb they only say how far along it is: 'starts to run'.
_PHASES = frozenset(
    'try start begin keep go come continue stop finish attempt want prepare'.split()
)
# What the subject does does not depend on the place: 'walks in a room'.
_ANYWHERE = lexicon.INTRANSITIVE - frozenset(
    'lean look stare gaze fall go come jump stop bend'.split()
)
# To stand on the floor is no more than to be there; for captions of pictures, things on it matter.
# A square is more often a shape than a place.
SCENES = lexicon.SCENES - {'square'} | {'floor', 'carpet'}
SIDES = frozenset(('left', 'right'))
_PLACES = frozenset(('in', 'on', 'at', 'inside', 'outside'))


class QueryLinker(Linker):
    """A :class:`Linker` that keeps verbs without an object as links without one."""

    def __init__(self, items: list[Item], entities: list[NounPhrase]) -> None:
        super().__init__(items, entities)
        # Of each verb: the links before it, its subjects, and itself, whose text may grow.
        self._verbs: list[tuple[int, list[int], Verb]] = []

    def run(self) -> list[Link]:
        """All links in the order in which they were read, each once."""
        super().run()
        self._add_particle()
        links: list[Link] = list(self.links)
        for before, subjects, verb in reversed(self._verbs):
            if verb.waiting:
                texts = [text for text in verb.texts if text != 'be']
                links[before:before] = [(s, None, text) for s in subjects for text in texts]
        return [link for link in dict.fromkeys(links) if link[0] != link[1]]

    def _verb(self, item: Item) -> None:
        last = self.clause.verb
        follows_directly = self._kind(-1) in ('TO', 'V')
        self._add_particle()
        super()._verb(item)
        verb = self.clause.verb
        if last is not None and last.waiting:
            shared = len(verb.texts) > 1
            if shared or (follows_directly and last.texts[-1] in _PHASES):
                last.waiting = False
        if verb is not None and verb.waiting:
            self._verbs.append((len(self.links), list(self.clause.subject), verb))

    def _described(self, text: str, number: int) -> list[int]:
        """'on the left' is where the thing before it is, not where somebody acts."""
        if self.entities[number].head in SIDES:
            return [self._bearer(list(self._owners(self.clause.nearest)))]
        return super()._described(text, number)

    def _auxiliary(self, item: Item) -> None:
        self._add_particle()
        super()._auxiliary(item)

    def _add_particle(self) -> None:
        """'stands up': what stands behind a verb without an object belongs to it."""
        verb = self.clause.verb
        if verb is not None and verb.waiting and self.clause.prepositions:
            verb.texts[-1] += f' {self.clause.prepositions[-1]}'


def merge_hands(items: list[Item], entities: list[NounPhrase]) -> list[Item]:
    """Make 'hold' and 'hand' one verb where the hand belongs to what is held."""
    merged: list[Item] = []
    i = 0
    while i < len(items):
        found, length = _merged_verb(items[i : i + 4], entities)
        merged += found
        i += length
    return merged


def _merged_verb(items: list[Item], entities: list[NounPhrase]) -> tuple[list[Item], int]:
    """What the first of the items becomes, and how many of them it takes."""
    verb, *rest = items
    kinds = [item.kind for item in rest]
    if verb.kind != 'V' or kinds[:1] != ['NP']:
        return [verb], 1
    if (
        kinds[1:2] == ['P']
        and _is_hand(rest[0], entities)
        and (verb.text, rest[1].text) in _BY_HAND
    ):
        return [Item('V', f'{verb.text} hand', verb.form, end=rest[0].end)], 2
    if kinds == ['NP', 'POS', 'NP'] and _is_hand(rest[2], entities) and verb.text == 'hold':
        return [Item('V', 'hold hand', verb.form), Item('P', 'of'), rest[0]], 4
    return [verb], 1


def _is_hand(item: Item, entities: list[NounPhrase]) -> bool:
    return entities[item.entity].head == 'hand'


def split_places(links: Iterable[Link], entities: list[NounPhrase]) -> Iterator[Link]:
    """Where somebody walks or stands, and that: 'walk in the street' is 'walk' and 'in the street'."""
    for subject, obj, text in links:
        verb, _, preposition = text.partition(' ')
        scene = obj is not None and entities[obj].head in SCENES
        if scene and text not in PREPOSITIONS and preposition in _PLACES and verb in _ANYWHERE:
            yield subject, None, verb
            yield subject, obj, preposition
        else:
            yield subject, obj, text
