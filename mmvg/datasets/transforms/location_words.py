"""Words of place in a query: finding them and exchanging left with right."""

import re
from collections.abc import Sequence

# Case is kept. Mixed case ("lEFT") is left alone, so that swapping twice changes nothing.
_OPPOSITE = {'left': 'right', 'Left': 'Right', 'LEFT': 'RIGHT'}
_OPPOSITE |= {right: left for left, right in _OPPOSITE.items()}

# A word of place may be compounded without a hyphen: topright, leftmost, lefthand, leftside.
_BEFORE = '(?:upper|lower|top|bottom|far|middle|mid|back|front)?'
_AFTER = '(?:most|handed|hand|side|wards|ward|y|ie)?'
_LETTER = r'[^\W\d_]'


def _word_pattern(words: Sequence[str]) -> re.Pattern:
    """Any of ``words`` as a word or in a compound; group 1 is the word, group 2 the rest."""
    alternatives = '|'.join(re.escape(w) for w in words)
    return re.compile(
        f'(?<!{_LETTER})({_BEFORE})({alternatives})(?={_AFTER}(?!{_LETTER}))', re.IGNORECASE
    )


_LEFT_OR_RIGHT = {
    'substring': re.compile('()(left|right)', re.IGNORECASE),
    'word': _word_pattern(('left', 'right')),
}


def swap_left_right(text: str, match: str) -> str:
    """Exchange "left" and "right" in ``text``; applied twice it gives ``text`` back.

    Args:
        text (str): A query.
        match (str): ``'substring'`` also changes "bright" to "bleft", as the released TransVG does
            (spec 1.3); ``'word'`` changes words and their compounds only: left, left-hand,
            leftmost, topleft.
    """
    return _LEFT_OR_RIGHT[match].sub(lambda m: m[1] + _OPPOSITE.get(m[2], m[2]), text)


def location_pattern(words: Sequence[str], match: str) -> re.Pattern:
    """Pattern that finds any of ``words`` in a query, as a substring or as a word."""
    if match == 'word':
        return _word_pattern(words)
    return re.compile('|'.join(re.escape(w) for w in words), re.IGNORECASE)


def check_match(match: str) -> str:
    """``match`` if it is one of the two ways of matching."""
    if match not in _LEFT_OR_RIGHT:
        raise ValueError(f"expected 'substring' (as the released code) or 'word', got {match!r}")
    return match
