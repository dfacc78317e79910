"""Cuts a caption into entities (given phrases, or noun phrases found by rule) and what links them."""

from collections.abc import Container, Sequence

from . import lexicon
from .chunk_items import BREAKS, Item, NounPhrase, Token
from .lemmatizer import lemmatize_noun
from .word_classifier import WordClassifier, is_plural

_LONGEST = max(map(len, lexicon.COMPOUND_PREPOSITIONS))
_FIRST_OF_COMPOUNDS = frozenset(
    words[0] for words in (*lexicon.COMPOUND_PREPOSITIONS, *lexicon.ADVERBIALS)
)


def head_word(words: Sequence[str]) -> str:
    """The lemma of the head noun: the last word before any preposition.

    What a group consists of is its head: 'a group of young men' -> 'man'.
    """
    return lemmatize_noun(words[head_position(words)].lower().strip(BREAKS))


def head_position(words: Sequence[str]) -> int:
    """Where the head noun stands among the words, of which there is at least one."""
    bare = [w.lower().strip(BREAKS) for w in words]
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
) -> tuple[list[Item], list[NounPhrase]]:
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


def _tokens(words: list[str], owners: list[int | None]) -> list[Token]:
    """Words without the punctuation that sticks to them; that of a phrase's inside is dropped."""
    tokens = []
    for i, (word, owner) in enumerate(zip(words, owners)):
        bare = word.strip('.,;:!?"()-') or word
        possessive = bare.endswith(("'s", '’s')) and len(bare) > 2 and owner is None
        tokens.append(Token(bare[:-2] if possessive else bare, i, owner))
        if possessive:
            tokens.append(Token("'s", i))
        ends_phrase = owner is None or owners[i + 1 : i + 2] != [owner]
        if bare != word and word[-1] in BREAKS and ends_phrase:
            tokens.append(Token(word[-1], i))
    return tokens


class _Cutter(WordClassifier):
    """One pass over the tokens, from left to right."""

    def run(self, words: list[str]) -> tuple[list[Item], list[NounPhrase]]:
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

    def _read(self, i: int) -> int:
        """Sort the token(s) at ``i`` in; returns their number."""
        for kind, known in (('P', lexicon.COMPOUND_PREPOSITIONS), ('ADV', lexicon.ADVERBIALS)):
            compound = self._compound(i, known)
            if compound:
                canonical = known[compound] if kind == 'P' else ' '.join(compound)
                self._add(kind, canonical, end=self.tokens[i + len(compound) - 1].word + 1)
                return len(compound)
        kind, text, form = self.classify(i)
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
        entity = NounPhrase(start, end, phrase, head_word(words), is_plural(words[-1]))
        self.entities.append(entity)
        self.items.append(Item('NP', ' '.join(words), entity=len(self.entities) - 1, end=end))
