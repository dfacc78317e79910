"""A caption as a strip below its picture, with the phrases in the colours of their boxes."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .colours import INK, PAPER, Colour, ink_on

_MARGIN = 6
_PADDING = 3


class Word(NamedTuple):
    """A word of a caption; ``phrase`` is the number of the phrase in whose colour it stands, None
    outside of phrases; ``begins`` numbers the phrases that begin with it."""

    text: str
    phrase: int | None
    begins: list[int]


class _Piece(NamedTuple):
    """Words of one colour; of a unit, which is not broken over two lines unless it is longer."""

    text: str
    fill: Colour | None = None
    run: object = None  # the space between neighbours of one run is filled, too


_Unit = list[_Piece]


def mark_words(caption: str, spans: Sequence[tuple[int, int]]) -> list[Word]:
    """Words of a caption with their phrases.

    A word of several phrases has the colour of the shortest one, so that a phrase within another one
    stands out; of equals the first.

    Args:
        caption (str): Words are what lies between spaces.
        spans (Sequence): First word and one after the last of each phrase.
    """
    shortest_first = sorted(range(len(spans)), key=lambda n: spans[n][1] - spans[n][0])
    words = []
    for place, text in enumerate(caption.split()):
        covering = [n for n in shortest_first if spans[n][0] <= place < spans[n][1]]
        begins = [n for n, (start, _) in enumerate(spans) if start == place]
        words.append(Word(text, covering[0] if covering else None, begins))
    return words


def caption_strip(
    width: int,
    words: Sequence[Word],
    colours: Sequence[Colour],
    notes: Sequence[str],
    relations: Sequence[tuple[int, int, str]],
    key: str,
    font: ImageFont.FreeTypeFont,
) -> Image.Image:
    """Draw a marked caption; below it notes on phrases, relations, and the line ``key``.

    Phrases are numbered if there are several.

    Args:
        width (int): In px.
        words (Sequence[Word]): See :func:`mark_words`.
        colours (Sequence): RGB of each phrase.
        notes (Sequence[str]): Of each phrase; empty ones are left out.
        relations (Sequence): Subject, object (numbers of phrases) and text.
        key (str): A line of its own, or empty.
        font (FreeTypeFont): Of everything.
    """
    paragraphs = [
        list(_caption_units(words, colours)),
        [[_number(n, colours), _Piece(note)] for n, note in enumerate(notes) if note],
        list(_relation_units(relations, colours)),
        [[_Piece(word, run=('key',))] for word in key.split()],
    ]
    height, space = sum(font.getmetrics()) + 2 * _PADDING, font.getlength(' ')
    placed, y = [], _MARGIN
    for units in filter(None, paragraphs):
        for line in _break(units, width - 2 * _MARGIN, font):
            placed.append((y, line))
            y += height
        y += _PADDING
    strip = Image.new('RGB', (width, y + _MARGIN - _PADDING), PAPER)
    draw = ImageDraw.Draw(strip)
    for y, line in placed:
        x = float(_MARGIN)
        for _, run in groupby(line, key=lambda p: p.run or id(p)):
            run = list(run)
            text = ' '.join(piece.text for piece in run)
            right = x + _length(run, font)
            if run[0].fill is not None:
                draw.rectangle((x, y + 1, right - 1, y + height - 2), fill=run[0].fill)
            ink = INK if run[0].fill is None else ink_on(run[0].fill)
            draw.text((x + _PADDING, y + _PADDING), text, font=font, fill=ink)
            x = right + (0 if run[0].run and run[0].run[0] == 'number' else space - _PADDING)
    return strip


def _caption_units(words: Sequence[Word], colours: Sequence[Colour]) -> Iterator[_Unit]:
    for word in words:
        numbers = [_number(n, colours) for n in word.begins] if len(colours) > 1 else []
        fill = None if word.phrase is None else colours[word.phrase]
        yield [*numbers, _Piece(word.text, fill, ('phrase', word.phrase))]


def _number(n: int, colours: Sequence[Colour]) -> _Piece:
    return _Piece(str(n + 1), colours[n], ('number', n))


def _relation_units(
    relations: Sequence[tuple[int, int, str]], colours: Sequence[Colour]
) -> Iterator[_Unit]:
    for i, (subject, target, text) in enumerate(relations):
        end = [_Piece(';')] if i + 1 < len(relations) else []
        yield [_number(subject, colours), _Piece(text), _number(target, colours), *end]


def _length(run: Sequence[_Piece], font: ImageFont.FreeTypeFont) -> float:
    return font.getlength(' '.join(piece.text for piece in run)) + 2 * _PADDING


def _break(units: Sequence[_Unit], width: float, font: ImageFont.FreeTypeFont) -> list[_Unit]:
    """Lines of at most ``width`` px; what is longer is broken between any two characters."""
    lines, x = [[]], 0.0
    space = font.getlength(' ')
    for unit in units:
        length = sum(_length([piece], font) for piece in unit) + space
        if x and x + length > width:
            lines.append([])
            x = 0.0
        if length <= width:
            lines[-1] += unit
            x += length
            continue
        for piece in unit:
            text = ''
            for char in piece.text:
                if x + _length([piece._replace(text=text + char)], font) > width and (text or x):
                    lines[-1] += [piece._replace(text=text)] if text else []
                    lines.append([])
                    x, text = 0.0, ''
                text += char
            lines[-1].append(piece._replace(text=text))
            x += _length(lines[-1][-1:], font) + space
    return lines
