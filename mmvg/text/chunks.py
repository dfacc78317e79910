"""Cuts a caption into entities (given phrases, or noun phrases found by rule) and what links them."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from . import lexicon
from .lemmatizer import lemmatize_noun, lemmatize_verb

_BREAKS = '.,;:!?'
_PLURALS = frozenset('people men women children geese policemen'.split())
_LONGEST = max(map(len, lexicon.COMPOUND_PREPOSITIONS))
_FUNCTION_WORDS = frozenset().union(
    *(lexicon.PREPOSITIONS, lexicon.AUXILIARIES, lexicon.CONJUNCTIONS, lexicon.DETERMINERS),
    *(lexicon.RELATIVES, lexicon.SUBORDINATORS, lexicon.ADVERBS, lexicon.PRONOUNS),
)
_FIRST_OF_COMPOUNDS = frozenset(
    words[0] for words in (*lexicon.COMPOUND_PREPOSITIONS, *lexicon.ADVERBIALS)
)
# Before these a word that may be a verb or a noun is a noun.
_OPENS_NOUN = ('DET', 'ADJ')


@dataclass
class Entity:
    """A noun phrase: words ``start`` to ``end`` (exclusive) of the caption.

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
class _Token:
    text: str
    word: int
    phrase: int | None = None


def head_word(words: Sequence[str]) -> str:
    """The lemma of the head noun: the last word before any preposition.

    What a group consists of is its head: 'a group of young men' -> 'man'.
    """
    return lemmatize_noun(words[head_position(words)].lower().strip(_BREAKS))


def head_position(words: Sequence[str]) -> int:
    """Where the head noun stands among the words, of which there is at least one."""
    bare = [w.lower().strip(_BREAKS) for w in words]
    end = next((i for i, w in enumerate(bare) if i and _ends_noun_phrase(w)), len(bare))
    while end > 1 and not bare[end - 1]:  # punctuation of its own
        end -= 1
    collective = lemmatize_noun(bare[end - 1]) in lexicon.COLLECTIVES
    if collective and bare[end : end + 1] == ['of'] and len(bare) > end + 1:
        return end + 1 + head_position(words[end + 1 :])
    return end - 1


def _ends_noun_phrase(word: str) -> bool:
    return word in lexicon.PREPOSITIONS or word in lexicon.RELATIVES


def cut(
    caption: str,
    spans: Sequence[tuple[int, int]] | None = None,
    verbs: Container[int] = (),
) -> tuple[list[Item], list[Entity]]:
    """Cut a caption into items and entities.

    Args:
        caption (str): Words are what lies between spaces.
        spans (Sequence, optional): First word and one after the last of each phrase. Of phrases that
            overlap, the longest counts and the others are left out. Without spans all entities are
            found by rule.
        verbs (Container[int]): Words that are known to be finite verbs, whatever they look like.

    Raises:
        ValueError: If a span is empty or not within the caption.
    """
    words = caption.lower().split()
    return _Cutter(_tokens(words, _owners(words, spans or ())), verbs).run(words)


def _owners(words: list[str], spans: Sequence[tuple[int, int]]) -> list[int | None]:
    """The phrase that each word belongs to."""
    owners: list[int | None] = [None] * len(words)
    for number, (start, end) in enumerate(spans):
        if not 0 <= start < end <= len(words):
            raise ValueError(
                f'phrase {number} covers the words {start} to {end} of a caption of {len(words)} words'
                f' ({" ".join(words)!r}); spans count what lies between spaces, the end is exclusive'
            )
    for number in sorted(range(len(spans)), key=lambda n: spans[n][0] - spans[n][1]):
        start, end = spans[number]
        if owners[start:end] == [None] * (end - start):
            owners[start:end] = [number] * (end - start)
    return owners


def _tokens(words: list[str], owners: list[int | None]) -> list[_Token]:
    """Words without the punctuation that sticks to them; that of a phrase's inside is dropped."""
    tokens = []
    for i, (word, owner) in enumerate(zip(words, owners)):
        bare = word.strip('.,;:!?"()-') or word
        possessive = bare.endswith(("'s", '’s')) and len(bare) > 2 and owner is None
        tokens.append(_Token(bare[:-2] if possessive else bare, i, owner))
        if possessive:
            tokens.append(_Token("'s", i))
        ends_phrase = owner is None or owners[i + 1 : i + 2] != [owner]
        if bare != word and word[-1] in _BREAKS and ends_phrase:
            tokens.append(_Token(word[-1], i))
    return tokens


class _Cutter:
    """One pass over the tokens, from left to right."""

    def __init__(self, tokens: list[_Token], verbs: Container[int]) -> None:
        self.tokens = tokens
        self.verbs = verbs
        self.items: list[Item] = []
        self.entities: list[Entity] = []
        self.noun: list[tuple[_Token, str]] = []  # an open noun phrase that no span marks

    def run(self, words: list[str]) -> tuple[list[Item], list[Entity]]:
        i = 0
        while i < len(self.tokens):
            token = self.tokens[i]
            if token.phrase is not None:
                self._close()
                end = i
                while end < len(self.tokens) and self.tokens[end].phrase == token.phrase:
                    end += 1
                first, last = token.word, self.tokens[end - 1].word + 1
                self._add_entity(first, last, token.phrase, words[first:last])
                i = end
            else:
                i += self._read(i)
        self._close()
        return self.items, self.entities

    # --- what a word is

    def _read(self, i: int) -> int:
        """Sort the token(s) at ``i`` in; returns their number."""
        for kind, known in (('P', lexicon.COMPOUND_PREPOSITIONS), ('ADV', lexicon.ADVERBIALS)):
            compound = self._compound(i, known)
            if compound:
                canonical = known[compound] if kind == 'P' else ' '.join(compound)
                self._add(kind, canonical, end=self.tokens[i + len(compound) - 1].word + 1)
                return len(compound)
        kind, text, form = self._classify(i)
        if kind in ('DET', 'ADJ', 'NOUN'):
            # 'a man the dog likes': an article opens another phrase.
            if kind == 'DET' and any(k == 'NOUN' for _, k in self.noun):
                self._close()
            self.noun.append((self.tokens[i], kind))
        elif kind == 'PRON':
            self._close()
            word = self.tokens[i].word
            self._add_entity(word, word + 1, None, [text])
        else:
            self._add(kind, text, form, self.tokens[i].word + 1)
        return 1

    def _classify(self, i: int) -> tuple[str, str, str]:
        word = self.tokens[i].text
        before = self._kind_before()
        if self.tokens[i].word in self.verbs:
            return 'V', lemmatize_verb(word), 'finite'
        if word in _BREAKS:
            return ',' if word == ',' else '.', word, ''
        if word == "'s" and before in ('NP', 'NOUN') and self._is_nominal(i + 1):
            return 'POS', word, ''
        if word in ('has', 'have', 'had') and not self._is_participle(i + 1):
            return 'V', 'have', 'finite'
        if word in lexicon.AUXILIARIES or word in ('has', 'have', 'had'):
            return 'AUX', word, ''
        if word in lexicon.RELATIVES and (before in ('NP', 'NOUN', ',') or word != 'that'):
            return 'REL', word, ''
        if word == 'and' and before in _OPENS_NOUN and self._is_adjective(i + 1):
            return 'ADJ', word, ''  # black and white
        for kind, known in (('AND', lexicon.CONJUNCTIONS), ('SUB', lexicon.SUBORDINATORS)):
            if word in known:
                return kind, word, ''
        if word == 'to' and self._is_base_verb(i + 1):
            return 'TO', word, ''
        if word in lexicon.PREPOSITIONS:
            return 'P', word, ''
        alone = word in lexicon.PERSONAL_PRONOUNS or not self._is_noun(i + 1)
        if word in lexicon.PRONOUNS and before not in _OPENS_NOUN and alone:
            return 'PRON', word, ''
        if word in lexicon.DETERMINERS or word.isdigit():
            return 'DET', word, ''
        form = self._verb_form(i, before)
        if form:
            return 'V', lemmatize_verb(word), form
        place = before == 'P' and word in lexicon.SCENES  # 'in outdoors'
        if (
            before not in _OPENS_NOUN
            and not place
            and (word in lexicon.ADVERBS or (word.endswith('ly') and len(word) > 4))
        ):
            return 'ADV', word, ''
        if word in lexicon.ADJECTIVES:
            return 'ADJ', word, ''
        return 'NOUN', word, ''

    def _verb_form(self, i: int, before: str) -> str:
        """``'ing'``, ``'ed'`` or ``'finite'`` if the word is a verb, ``''`` if not."""
        word = self.tokens[i].text
        if before == 'ADJ' and self._is_whole_phrase() and self._can_end_phrase(i):
            before = 'NOUN'  # 'a man in red rides', 'the one on the left holding a ball'
        if before in _OPENS_NOUN:
            return ''
        lemma = lemmatize_verb(word)
        after_phrase = before in ('NP', 'AUX', 'REL', 'V', 'ADV')
        if word.endswith('ing') and len(word) > 4:
            # 'a kitchen and dining area', but 'sits and holding fruit'
            joined = before == 'AND' and not any(item.kind == 'V' for item in self.items)
            modifies = (before in ('P', '') or joined) and self._is_noun(i + 1)
            if (word in lexicon.NOUNS_IN_ING and not after_phrase) or modifies:
                return ''
            return 'ing'
        past = word.endswith('ed') and len(word) > 3 and word not in lexicon.NOUNS_IN_ED
        past = past or (word in lexicon.IRREGULAR_VERBS and word != lemma and word[-1] != 's')
        if past:
            known = lemma in lexicon.VERBS or word in lexicon.IRREGULAR_VERBS
            # 'wearing striped shirts'
            describes = before in ('AND', ',') or (before == 'V' and self.items[-1].text == 'wear')
            if before in ('P', 'POS', '') or (describes and self._is_noun(i + 1)):
                return ''
            if word == 'left' and before not in ('AUX', 'NP'):
                return ''
            if word == 'ground' and before != 'AUX':
                return ''
            return 'ed' if known or after_phrase or before == 'NOUN' else ''
        return 'finite' if self._is_finite(i, before, lemma) else ''

    def _is_finite(self, i: int, before: str, lemma: str) -> bool:
        word = self.tokens[i].text
        known = lemma in lexicon.VERBS
        singular = word != lemma  # third person: rides
        follows_verb = any(item.kind in ('V', 'AUX') for item in self.items)
        if before == ',':
            continues = follows_verb and singular and self._is_preposition(i + 1)
            return known and (continues or self._is_marked(i + 1))
        if before in ('', 'P', 'POS', '.', 'SUB'):
            return False
        if before == 'NOUN':
            if self.items and self.items[-1].text == 'in' and self._is_worn(i):
                return False  # 'in roller skates'
            agrees = singular != _is_plural(self.noun[-1][0].text)
            return known and (agrees or self._agrees_with_subject(i, singular))
        if before == 'AND':
            return known and follows_verb and not self._is_noun(i + 1)
        if before == 'NP' and not known:
            # An unknown word behind a phrase, spelled as a third person.
            third_person = word.endswith('s') and not word.endswith('ss')
            return third_person and (self._is_nominal(i + 1) or self._is_preposition(i + 1))
        return known

    def _is_whole_phrase(self) -> bool:
        """Whether the open phrase may end with its adjective: 'in dark red', 'on the left'."""
        last, kinds = self.noun[-1][0].text, {kind for _, kind in self.noun}
        before = self.items[-1].text if self.items and self.items[-1].kind == 'P' else ''
        if last in lexicon.COLOURS:
            return before == 'in' and kinds == {'ADJ'}
        return (
            last in ('left', 'right') and before in ('on', 'at', 'to') and kinds == {'DET', 'ADJ'}
        )

    def _can_end_phrase(self, i: int) -> bool:
        """Whether the word is rather a verb than what the adjective before it describes."""
        word = self.tokens[i].text
        if lemmatize_verb(word) not in lexicon.VERBS or lemmatize_noun(word) in lexicon.CLOTHING:
            return False
        behind = {lemmatize_noun(token.text) for token in self.tokens[i + 1 : i + 3]}
        # 'in white running shoes', 'in the blue swimming pool'
        described = behind & (lexicon.CLOTHING | lexicon.SCENES) and not self._is_marked(i + 1)
        described = described and not self._is_preposition(i + 1)
        return word.endswith('s') or (word.endswith('ing') and not described)

    def _is_worn(self, i: int) -> bool:
        return lemmatize_noun(self.tokens[i].text) in lexicon.CLOTHING

    def _agrees_with_subject(self, i: int, singular: bool) -> bool:
        """'a man in brown shoes holds a bat', 'a man and a woman dance on ...'."""
        noun = lemmatize_noun(self.noun[-1][0].text)
        behind = [item.kind for item in self.items[-2:]] in (['NP', 'P'], ['NP', 'V'])
        worn = noun in lexicon.CLOTHING
        fits = behind and (singular or worn) and singular != self.entities[-1].plural
        joined = [item.kind for item in self.items[-2:]] == ['NP', 'AND']
        fits = fits or (joined and noun in (lexicon.CLOTHING if singular else lexicon.ANIMATE))
        return fits and (self._is_marked(i + 1) or self._is_preposition(i + 1))

    # --- neighbours

    def _kind_before(self) -> str:
        if self.noun:
            return self.noun[-1][1]
        return self.items[-1].kind if self.items else ''

    def _is_nominal(self, i: int) -> bool:
        """Whether a noun phrase begins here."""
        return self._is_marked(i) or self._is_noun(i)

    def _is_marked(self, i: int) -> bool:
        """Whether a given phrase or an article begins here."""
        return i < len(self.tokens) and (
            self.tokens[i].phrase is not None or self.tokens[i].text in lexicon.DETERMINERS
        )

    def _is_preposition(self, i: int) -> bool:
        return i < len(self.tokens) and self.tokens[i].text in lexicon.PREPOSITIONS

    def _is_noun(self, i: int) -> bool:
        """Whether an unmarked word looks like a noun or its adjective."""
        if i >= len(self.tokens) or self.tokens[i].phrase is not None:
            return False
        word = self.tokens[i].text
        if word in _BREAKS or word == "'s" or word in _FUNCTION_WORDS:
            return False
        return not word.endswith(('ing', 'ed', 'ly')) or word in lexicon.NOUNS_IN_ING

    def _is_adjective(self, i: int) -> bool:
        if i >= len(self.tokens) or self.tokens[i].phrase is not None:
            return False
        return self.tokens[i].text in lexicon.ADJECTIVES

    def _is_participle(self, i: int) -> bool:
        if i >= len(self.tokens) or self.tokens[i].phrase is not None:
            return False
        word = self.tokens[i].text
        irregular = word in lexicon.IRREGULAR_VERBS
        return word.endswith('ed') or word in ('been', 'just') or irregular

    def _is_base_verb(self, i: int) -> bool:
        if i >= len(self.tokens) or self.tokens[i].phrase is not None:
            return False
        return self.tokens[i].text in lexicon.VERBS or self.tokens[i].text in ('see', 'be')

    def _compound(self, i: int, known: Container[tuple[str, ...]]) -> tuple[str, ...]:
        """The longest of the known expressions that begins here, outside the phrases."""
        if self.tokens[i].text not in _FIRST_OF_COMPOUNDS:
            return ()
        texts = []
        for token in self.tokens[i : i + _LONGEST]:
            if token.phrase is not None:
                break
            texts.append(token.text)
        for length in range(len(texts), 0, -1):
            if tuple(texts[:length]) in known:
                return tuple(texts[:length])
        return ()

    # --- output

    def _add(self, kind: str, text: str, form: str = '', end: int = -1) -> None:
        self._close()
        self.items.append(Item(kind, text, form, end=end))

    def _close(self) -> None:
        """End the open noun phrase."""
        tokens, self.noun = [t for t, _ in self.noun], []
        if tokens:
            texts = [t.text for t in tokens]
            start = self._take_back_collective(texts)
            start = tokens[0].word if start is None else start
            self._add_entity(start, tokens[-1].word + 1, None, texts)

    def _take_back_collective(self, texts: list[str]) -> int | None:
        """Put 'a group of' in front of what it consists of; returns where that starts."""
        if [(i.kind, i.text) for i in self.items[-1:]] != [('P', 'of')] or len(self.items) < 2:
            return None
        group = self.items[-2]
        if group.kind != 'NP':
            return None
        entity = self.entities[group.entity]
        if entity.phrase is not None or entity.head not in lexicon.COLLECTIVES:
            return None
        texts[:0] = [*group.text.split(), 'of']
        del self.items[-2:]
        self.entities.pop()
        return entity.start

    def _add_entity(self, start: int, end: int, phrase: int | None, words: Sequence[str]) -> None:
        entity = Entity(start, end, phrase, head_word(words), _is_plural(words[-1]))
        self.entities.append(entity)
        self.items.append(Item('NP', ' '.join(words), entity=len(self.entities) - 1, end=end))


def _is_plural(word: str) -> bool:
    return word in _PLURALS or (lemmatize_noun(word) != word and word.endswith('s'))
