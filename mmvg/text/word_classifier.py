from collections.abc import Container

from . import lexicon
from .chunk_items import BREAKS, Item, NounPhrase, Token
from .lemmatizer import lemmatize_noun, lemmatize_verb

_PLURALS = frozenset('people men women children geese policemen'.split())
_FUNCTION_WORDS = frozenset().union(
    *(lexicon.PREPOSITIONS, lexicon.AUXILIARIES, lexicon.CONJUNCTIONS, lexicon.DETERMINERS),
    *(lexicon.RELATIVES, lexicon.SUBORDINATORS, lexicon.ADVERBS, lexicon.PRONOUNS),
)
# Before these a word that may be a verb or a noun is a noun.
_OPENS_NOUN = ('DET', 'ADJ')


class WordClassifier:
    """Tells what a word of a caption is, by its neighbours and what was read before it.

    Args:
        tokens (list[Token]): The whole caption.
        verbs (Container[int]): Words that are known to be finite verbs, whatever they look like.

    Attributes:
        items (list[Item]): What was read so far; those who read fill it.
        entities (list[NounPhrase]): Of these items.
        noun (list): The open noun phrase, which no span marks: its tokens, each with its kind.
    """

    def __init__(self, tokens: list[Token], verbs: Container[int]) -> None:
        self.tokens = tokens
        self.verbs = verbs
        self.items: list[Item] = []
        self.entities: list[NounPhrase] = []
        self.noun: list[tuple[Token, str]] = []

    def classify(self, i: int) -> tuple[str, str, str]:
        """Kind, canonical text and verb form of token ``i``, as of :class:`Item`.

        Kinds of words in a noun phrase are DET, ADJ and NOUN; PRON is one of its own.
        """
        word = self.tokens[i].text
        before = self._kind_before()
        if self.tokens[i].word in self.verbs:
            return 'V', lemmatize_verb(word), 'finite'
        if word in BREAKS:
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
            agrees = singular != is_plural(self.noun[-1][0].text)
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
        if word in BREAKS or word == "'s" or word in _FUNCTION_WORDS:
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


def is_plural(word: str) -> bool:
    """Whether a noun looks like more than one thing."""
    return word in _PLURALS or (lemmatize_noun(word) != word and word.endswith('s'))
