"""Base forms of English verbs and nouns by table and rule; no model and no download."""

import functools

from .lexicon import IRREGULAR_NOUNS, IRREGULAR_VERBS, VERBS

_VOWELS = 'aeiou'
_HISSING = ('s', 'x', 'z', 'ch', 'sh')


@functools.cache
def lemmatize_verb(word: str) -> str:
    """The base form of a verb: ``'riding'``, ``'rides'``, ``'rode'`` and ``'ridden'`` -> ``'ride'``.

    A verb that the lexicon lacks gets its base form by the rules of spelling.
    """
    word = word.lower()
    if word in IRREGULAR_VERBS:
        return IRREGULAR_VERBS[word]
    if word in VERBS:
        return word
    for ending in ('ing', 'ed', 's'):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith('ss'):
            return _verb_of_stem(word.removesuffix(ending), ending)
    return word


def _verb_of_stem(stem: str, ending: str) -> str:
    """The verb that makes ``stem + ending``."""
    doubled = len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in _VOWELS
    candidates = [stem, stem + 'e']
    if doubled:
        candidates.append(stem[:-1])
    if ending == 'ed' and stem.endswith('i'):  # carri-ed
        candidates.append(stem[:-1] + 'y')
    if ending == 's' and stem.endswith('e'):  # watche-s, carrie-s
        candidates += [stem[:-1], stem[:-2] + 'y']
    for verb in candidates:
        if verb in VERBS:
            return verb
    if ending == 's':
        if stem.endswith('ie') and len(stem) > 3:
            return stem[:-2] + 'y'
        return stem[:-1] if stem[:-1].endswith(_HISSING) and stem.endswith('e') else stem
    if ending == 'ed' and stem.endswith('i'):
        return stem[:-1] + 'y'
    if doubled and not stem.endswith(('ll', 'ss', 'zz')):
        return stem[:-1]
    return stem + 'e' if _lost_an_e(stem) else stem


def _lost_an_e(stem: str) -> bool:
    """Whether 'STEM-ing' is spelled without the e of the verb: danc-ing, hik-ing, not walk-ing."""
    if stem.endswith(('c', 'v', 'u', 'dg', 'rs', 'ns', 'tur', 'sur', 'iz', 'ag')):
        return True
    if stem.endswith('at') and len(stem) > 3 and stem[-3] not in _VOWELS + 'h':
        return True  # locat-ing, not repeat-ing
    vowels = [letter in _VOWELS for letter in stem]
    one_before_last = vowels[-3:] == [False, True, False] or vowels == [True, False]
    return one_before_last and sum(vowels) == 1 and stem[-1] not in 'wxy'


@functools.cache
def lemmatize_noun(word: str) -> str:
    """The singular of a noun; words that have none (``'jeans'``) stay."""
    word = word.lower()
    if word in IRREGULAR_NOUNS:
        return IRREGULAR_NOUNS[word]
    if len(word) < 4 or not word.endswith('s') or word.endswith(('ss', 'us', 'is')):
        return word
    if word.endswith('ies'):
        return word[:-3] + 'y' if len(word) > 4 else word[:-1]
    if word.endswith(('sses', 'xes', 'ches', 'shes', 'zzes', 'tatoes', 'matoes')):
        return word[:-2]
    return word[:-1]
