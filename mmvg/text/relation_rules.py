"""Attaches verbs and prepositions of a caption to its entities; the rules of the relation parser.

It reads a caption once, from left to right.

1. A verb between two entities links its subject to its object: (man, ride, bike). The last
   preposition behind the verb goes with it: (man, sit on, bench).
2. A preposition before any verb describes the nearest entity, but clothes, parts of the body, sides
   ('on the left') and what stands behind 'of' pass it on to what they belong to: in 'a man in a red
   shirt on a bike' it is the man who is on the bike. Behind 'is' it describes the subject.
3. A preposition behind the object of a verb says where the subject acts: in 'a man rides a bike on
   the street', (man, on, street). It describes the object if it is 'of'; if it puts clothes on the
   object ('pushing a boy in a green shirt'); if it is 'with', other than with a tool; if it is in,
   on or into something that is no scene ('holding a baby on her lap'). Behind a place ('sitting on a
   bench ...') it describes that place only if it is 'of', or if the place is a person or an animal
   and it is in, on or with something.
4. A finite verb belongs to the subject of the clause; a participle to the nearest person, animal or
   vehicle, or if there is none to the nearest entity; behind a comma to the subject of the clause.
5. 'thrown by' turns a relation round, unless the verb is a posture ('parked by').
6. What 'and' or a comma joins shares the relations, unless a verb follows that makes it the subject
   of a new clause. Of two verbs before an object ('selling or delivering'), both have it.
7. 'that' and 'who' stand for the nearest entity, as subject or as object ('the bike that a man
   rides'); ``'s`` means 'of'; 'it' in 'a cart with a boy sitting in it' is the cart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from . import lexicon
from .chunk_items import Item, NounPhrase

# What is said of these is said of whom they belong to.
_PARTS = lexicon.CLOTHING | lexicon.COLOURS | lexicon.BODY_PARTS | {'left', 'right'}

Link = tuple[int, int, str]  # numbers of subject and object, canonical text


@dataclass
class Verb:
    """What is done, and whether its object is still to come."""

    texts: list[str]
    passive: bool = False
    waiting: bool = True
    # Whether an object followed, or a place.
    has_object: bool = False


@dataclass
class _Clause:
    main: list[int] = field(default_factory=list)  # the subject
    subject: list[int] = field(default_factory=list)  # of the verb read last
    verb: Verb | None = None
    prepositions: list[str] = field(default_factory=list)
    nearest: int | None = None
    gap: int | None = None  # what 'that' stands for where it is an object
    members: list[int] = field(default_factory=list)  # entities so far
    finite: bool = False  # whether the verb of the subject was read


class Linker:
    """One caption."""

    def __init__(self, items: list[Item], entities: list[NounPhrase]) -> None:
        self.items = items
        self.entities = entities
        self.links: list[Link] = []
        self.fronted: list[tuple[str, int]] = []  # 'On a street, ...' waits for its subject
        self.clause = _Clause()
        self.joined: dict[int, list[int]] = {}  # by 'and'; all members share a list
        self.position = 0

    def run(self) -> list[Link]:
        """All links in the order in which they were read, each once."""
        read = dict(
            NP=self._entity,
            V=self._verb,
            P=lambda item: self.clause.prepositions.append(item.text),
            REL=self._relative,
            AUX=self._auxiliary,
        )
        for position, item in enumerate(self.items):
            self.position = position
            if item.kind in read:
                read[item.kind](item)
            elif item.kind == '.':
                self.clause = _Clause()
        return [link for link in dict.fromkeys(self.links) if link[0] != link[1]]

    # --- entities

    def _entity(self, item: Item) -> None:
        number, clause = item.entity, self.clause
        before = self._kind(-1)
        if self._is_pronoun(number):
            number = self._antecedent()
            if number is None:
                clause.prepositions.clear()
                return
        if before == 'POS':
            self._owned(number)
        elif self._joins():
            number = self._join(number)
        elif before == 'REL':
            self._behind_relative(number)
        elif before == 'SUB' or self._starts_clause():
            self._new_subject(number)
        elif clause.verb and clause.verb.waiting:
            self._complete_verb(number)
        elif clause.prepositions and clause.nearest is None:
            return self._put_in_front(clause.prepositions.pop(), number)
        elif clause.prepositions:
            text = clause.prepositions[-1]
            stated = self._kind(-2, skip_adverbs=True) == 'AUX'
            # 'a man with a bag is in front of a car'
            main = [] if not stated or self._behind_relative_pronoun() else clause.main
            self.links += [(s, number, text) for s in main or self._described(text, number)]
            if stated:
                clause.verb = Verb(['be'], waiting=False)
        elif before == 'AUX' and clause.main and self.entities[clause.main[0]].phrase is not None:
            number = clause.main[0]  # 'a man is a cook': the same thing
        elif before == 'NP' and self._kind(1) in ('V', 'AUX'):
            clause.gap = clause.nearest  # 'the bike a man rides'
            clause.subject = [number]
        elif before == 'NP' and clause.verb:
            self._copy_links(clause.nearest, number)  # 'gives a dog a bone'
        else:
            self._new_subject(number)
        clause = self.clause
        clause.prepositions.clear()
        clause.nearest = number
        clause.members.append(number)

    def _new_subject(self, number: int) -> None:
        fresh = _Clause(main=[number], subject=[number])
        if self.clause.main or self.clause.verb:
            self.clause = fresh
        else:
            self.clause.main, self.clause.subject = [number], [number]
        self.links += [(number, place, text) for text, place in self.fronted]
        self.fronted.clear()

    def _owned(self, number: int) -> None:
        """The owner was taken for what it owns."""
        owner = self.clause.nearest
        if owner is None:
            return self._new_subject(number)
        self.links = [(s, number if o == owner else o, t) for s, o, t in self.links]
        self.links.append((number, owner, 'of'))
        for group in (self.clause.main, self.clause.subject):
            group[:] = [number if member == owner else member for member in group]

    def _antecedent(self) -> int | None:
        """What 'it' means: the owner of the subject in 'a cart with a boy sitting in it'."""
        subject = self.clause.subject[:1]
        return next((s for s, o, t in self.links if [o] == subject and t == 'with'), None)

    def _is_pronoun(self, number: int) -> bool:
        entity = self.entities[number]
        return entity.phrase is None and entity.head in lexicon.PRONOUNS

    # --- joined entities

    def _joins(self) -> bool:
        """Whether 'and' or a comma joins this entity to one before."""
        kinds = self._kind(-1), self._kind(-2)
        # Behind a verb, as in 'pies being made and a person', it cannot be an object.
        after_link = kinds[0] in ('AND', ',') and {'NP', 'V'} & {kinds[1], self._kind(-3)}
        if not after_link or self.clause.nearest is None:
            return False
        return not (self.clause.finite and self._verb_follows())

    def _verb_follows(self) -> bool:
        """Whether this entity, with what describes it, is the subject of a finite verb."""
        rest = self.items[self.position + 1 :]
        i = 0
        while i + 1 < len(rest) and rest[i].kind == 'P' and rest[i + 1].kind == 'NP':
            i += 2
        if i >= len(rest):
            return False
        finite = rest[i].kind == 'V' and rest[i].form == 'finite'
        return finite or rest[i].kind == 'AUX'

    def _starts_clause(self) -> bool:
        return self._kind(-1) in ('AND', ',') and self.clause.finite and self._verb_follows()

    def _join(self, number: int) -> int:
        """Give an entity the links of one of its kind before it."""
        clause = self.clause
        target = next(
            (n for n in self._owners(clause.nearest) if self._sort(n) == self._sort(number)),
            clause.nearest,
        )
        if target in clause.main and not self._has_link_from_verb(target):
            clause.main.append(number)
            if clause.subject is not clause.main and target in clause.subject:
                clause.subject.append(number)
        else:
            self._copy_links(target, number)
        group = self.joined.setdefault(target, [target])
        group.append(number)
        self.joined[number] = group
        return number

    def _has_link_from_verb(self, number: int) -> bool:
        return self.clause.verb is not None and number not in self.clause.subject

    def _copy_links(self, target: int, number: int) -> None:
        self.links += [(s, number, t) for s, o, t in self.links if o == target]

    def _sort(self, number: int) -> str:
        head = self.entities[number].head
        if head in lexicon.ANIMATE:
            return 'animate'
        return 'clothing' if head in lexicon.CLOTHING else ''

    # --- verbs

    def _verb(self, item: Item) -> None:
        clause, before = self.clause, self._kind(-1, skip_adverbs=True)
        waiting = clause.verb if clause.verb and clause.verb.waiting else None
        joined = before == 'AND' and waiting and not clause.prepositions
        shared = joined and waiting.texts[-1] not in lexicon.INTRANSITIVE
        texts = [*waiting.texts, item.text] if shared else [item.text]
        stays = before in ('TO', 'V', 'P', 'SUB', 'REL', 'AND') or clause.gap is not None
        if not (stays and clause.subject):
            clause.subject = self._subject_of(item, before)
        elif before == 'AND' and item.form == 'finite':
            clause.subject = clause.main
        clause.finite |= item.form == 'finite' and clause.subject == clause.main
        clause.verb = Verb(texts, passive=item.form == 'ed')
        clause.prepositions.clear()
        if clause.gap is not None:
            self._fill_gap()

    def _subject_of(self, item: Item, before: str) -> list[int]:
        """Who does it."""
        clause = self.clause
        if before == 'AUX':
            return clause.subject if self._behind_relative_pronoun() else clause.main
        if before == ',' or item.form == 'finite' or clause.nearest is None:
            return clause.main or clause.subject
        chain = list(self._owners(clause.nearest))
        nearest = self._bearer(chain)
        of_things = item.form == 'ed' and item.text not in lexicon.POSTURES | {'dress'}
        if of_things or item.text in lexicon.VERBS_OF_THINGS:
            return self._group(nearest)
        earlier = [n for n in reversed(clause.members) if n not in chain]
        moving = lexicon.ANIMATE | lexicon.VEHICLES
        for number in [nearest, *chain, *earlier]:
            if self.entities[number].head in moving:
                return self._group(number)
        return clause.subject if clause.verb else self._group(nearest)

    def _group(self, number: int) -> list[int]:
        """It and what of its kind is joined to it."""
        if number in self.clause.main:
            return self.clause.main
        return [n for n in self.joined.get(number, [number]) if self._sort(n) == self._sort(number)]

    def _auxiliary(self, item: Item) -> None:
        if self._behind_relative_pronoun():
            return
        self.clause.finite = True
        if self.clause.verb and self.clause.verb.waiting:
            self.clause.verb = None  # 'a man sitting is near a car'

    def _behind_relative_pronoun(self) -> bool:
        kinds = [i.kind for i in self.items[: self.position]]
        while kinds and kinds[-1] in ('AUX', 'ADV', 'P'):
            kinds.pop()
        return kinds[-1:] == ['REL'] or self.clause.gap is not None

    def _complete_verb(self, number: int) -> None:
        """The entity is the object of the verb, or the place behind its preposition."""
        clause, verb = self.clause, self.clause.verb
        preposition = clause.prepositions[-1] if clause.prepositions else ''
        agent = preposition == 'by' and verb.passive and verb.texts[-1] not in lexicon.POSTURES
        for text in verb.texts[-1:] if preposition else verb.texts:
            if agent:
                self.links += [(number, s, text) for s in clause.subject]
            else:
                full = f'{text} {preposition}'.rstrip()
                self.links += [(s, number, full) for s in clause.subject]
        verb.waiting = False
        verb.has_object = preposition in ('', 'out', 'off')  # 'blow out a candle'

    # --- prepositions

    def _put_in_front(self, text: str, number: int) -> None:
        self.clause.prepositions.clear()
        if text != 'of':
            self.fronted.append((text, number))

    def _described(self, text: str, number: int) -> list[int]:
        """What a preposition describes that no verb takes."""
        clause, head = self.clause, self.entities[number].head
        nearest = clause.nearest
        chain = list(self._owners(nearest))
        if text == 'of':
            return [nearest]
        accompanied = text == 'with' and self._sort(number) == 'animate'
        if accompanied and clause.verb is None and self._sort(nearest) == '':
            # 'a woman in a room with a cat'
            company = [n for n in chain if self._sort(n) == 'animate']
            return self._group(company[0] if company else nearest)
        worn = head in lexicon.CLOTHING and text in ('in', 'with')
        if worn or (text == 'in' and head in lexicon.COLOURS):
            wearer = next((n for n in chain if self._sort(n) == 'animate'), None)
            return [self._bearer(chain) if wearer is None else wearer]
        bearer = self._bearer(chain)
        if clause.verb is None or bearer in clause.subject:
            return clause.main if bearer in clause.main else [bearer]
        inside = text in lexicon.CONTAINING and head not in lexicon.SCENES
        if clause.verb.has_object:
            with_part = text == 'with' and head not in lexicon.INSTRUMENTS
            return [bearer] if inside or with_part else clause.subject
        scenes = self.entities[nearest].head in lexicon.SCENES and head in lexicon.SCENES
        if scenes and text in ('in', 'at'):
            return [nearest]  # 'on a street in a city'
        held = any(o == nearest and t == 'with' for _, o, t in self.links)
        close = inside or text == 'with'
        if (self._sort(bearer) == 'animate' and close) or (held and inside):
            return [nearest if held else bearer]
        return clause.subject

    def _owners(self, number: int) -> Iterator[int]:
        """An entity, what it describes, what that describes, and so on."""
        seen = set()
        while number is not None and number not in seen:
            yield number
            seen.add(number)
            number = next((s for s, o, _ in self.links if o == number), None)

    def _bearer(self, chain: list[int]) -> int:
        """The first that is not worn, no part of a body, no side ('on the left') and not behind 'of'."""
        for number, owner in zip(chain, chain[1:]):
            head = self.entities[number].head
            part = head in _PARTS
            content = (owner, number, 'of') in self.links
            if not part and not (content and self.entities[owner].head not in lexicon.PICTURES):
                return number
        return chain[-1]

    # --- relative clauses

    def _relative(self, item: Item) -> None:
        clause = self.clause
        if clause.nearest is None:
            return
        chain = list(self._owners(clause.nearest))
        person = item.text in ('who', 'whom', 'whose')
        animate = next((n for n in chain if self._sort(n) == 'animate'), None)
        clause.nearest = chain[0] if animate is None or not person else animate
        clause.subject = self._group(clause.nearest)
        clause.verb = None

    def _behind_relative(self, number: int) -> None:
        """'that a man rides', 'whose dog'."""
        clause = self.clause
        if self.items[self.position - 1].text == 'whose' and clause.nearest is not None:
            self.links.append((number, clause.nearest, 'of'))
            clause.main = [number]
        else:
            clause.gap = clause.nearest
        clause.subject = [number]

    def _fill_gap(self) -> None:
        """The object of the verb is what 'that' stands for, unless another one follows."""
        clause, gap = self.clause, self.clause.gap
        rest = [(item.kind, item.text) for item in self.items[self.position + 1 :][:2]]
        kinds = [kind for kind, _ in rest]
        intransitive = clause.verb.texts[-1] in lexicon.INTRANSITIVE
        if kinds[:1] in (['NP'], ['V'], ['TO']) or (kinds == ['P', 'NP'] and intransitive):
            return
        stranded = kinds[:1] == ['P'] and kinds != ['P', 'NP']
        clause.prepositions = [rest[0][1]] if stranded else []
        self._complete_verb(gap)
        clause.gap, clause.nearest = None, gap

    def _kind(self, offset: int, skip_adverbs: bool = False) -> str:
        """The kind of an item near the present one."""
        i = self.position + offset
        while skip_adverbs and i >= 0 and self.items[i].kind == 'ADV':
            i -= 1
        return self.items[i].kind if 0 <= i < len(self.items) else ''
