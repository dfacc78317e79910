"""Frequent misspellings of sentences about videos, and the words that they stand for."""

from types import MappingProxyType

# Found in the sentences of VidSTG's validation set: words of at most a few occurrences, one or two
# letters away from a frequent one, that no English text would have in that place. Some lost a blank,
# and 'an' became 'the' inside of 'man' and 'woman'.
MISSPELLINGS = MappingProxyType(
    {
        written: meant
        for meant, variants in {
            'adult': 'audlt',
            'beside the': 'besidethe',
            'black': 'balck',
            'blanket': 'blacket',
            'blue': 'bule',
            'brown': 'borwn',
            'carries': 'carrys',
            'female': 'fmale',
            'floor': 'flor',
            'gray': 'gary gery',
            'helmet': 'halmet hulmet',
            'hotel': 'hotal',
            'in': 'ion',
            'inside': 'insdie',
            'man': 'mthe',
            'outside': 'ouside',
            'purple': 'putple',
            'silver': 'sliver',
            'sitting': 'siting',
            'socks': 'scoks',
            'the': 'th teh thr',
            'the grass': 'thegrass',
            'the show': 'theshow',
            'throws': 'throwes',
            'touches': 'touchs',
            'waving': 'waveing',
            'white': 'whiet',
            'with': 'whith',
            'woman': 'womthe',
            'yellow': 'ywllow yelllow',
        }.items()
        for written in variants.split()
    }
)


def correct_spelling(words: list[str]) -> list[str]:
    """Words in lower case, those known to be misspelled replaced; some of them are two."""
    return [part for word in words for part in MISSPELLINGS.get(word, word).split()]
