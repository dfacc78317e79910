"""The two files that Flickr30k Entities has for a picture: ``Annotations/*.xml`` with the boxes and
``Sentences/*.txt`` with five captions whose phrases are marked.

A *chain* is a thing of the picture; all phrases of all captions that mean it carry its number. The
chain 0 stands for what is not visible; chains of scenes and a few others have no box.
"""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

# [/EN#547/people Several climbers]: chain, one or more types, words.
_PHRASE = re.compile(r'\[/EN#([^/\s\[\]]+)((?:/[^/\s\[\]]+)+) ([^\[\]]*)\]')
_REMEDY = 'take the file from annotations.zip of Flickr30k Entities again'


@dataclass
class EntityBoxes:
    """Content of an annotation file.

    ``boxes`` maps a chain to its boxes, x1 y1 x2 y2 as stored: first and last pixel, counted from
    1. ``without_box`` maps other chains to the reason, ``'scene'`` or ``'no box'``.
    """

    width: int
    height: int
    boxes: dict[str, list[list[float]]]
    without_box: dict[str, str]


@dataclass
class MarkedPhrase:
    """A phrase of a caption: its words are ``caption.split()[start:end]``."""

    chain: str
    types: list[str]
    text: str
    start: int
    end: int


class _Builder(ElementTree.TreeBuilder):
    """Refuses document types: with them come entities, which can grow without limit."""

    def doctype(self, name: str, public_id: str | None, system: str | None) -> None:
        raise ValueError('it declares a document type, which no annotation file does')


def read_annotation(path: str) -> EntityBoxes:
    """Read ``Annotations/IMAGE.xml``.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is not an annotation file; the message names file and remedy.
    """
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        root = ElementTree.parse(path, parser).getroot()
        size = root.find('size')
        result = EntityBoxes(
            int(size.findtext('width')), int(size.findtext('height')), boxes={}, without_box={}
        )
        for number, item in enumerate(root.findall('object')):
            _add_object(result, item, number)
    except (ElementTree.ParseError, ValueError, TypeError, AttributeError, LookupError) as e:
        raise ValueError(
            f'{path} is not an annotation file of Flickr30k Entities ({e}); {_REMEDY}'
        ) from e
    return result


def _add_object(result: EntityBoxes, item: ElementTree.Element, number: int) -> None:
    chains = [name.text.strip() for name in item.findall('name')]
    if not chains:
        raise ValueError(f'object {number} has no name')
    box = item.find('bndbox')
    if box is not None:
        corners = [float(box.findtext(k)) for k in ('xmin', 'ymin', 'xmax', 'ymax')]
        for chain in chains:
            result.boxes.setdefault(chain, []).append(list(corners))
    else:
        reason = 'scene' if item.findtext('scene', '0').strip() == '1' else 'no box'
        result.without_box.update(dict.fromkeys(chains, reason))


def parse_sentence(line: str) -> tuple[str, list[MarkedPhrase]]:
    """The caption without marks, and its phrases.

    Raises:
        ValueError: If a mark is not closed or has another form.
    """
    caption, phrases, end = '', [], 0
    for match in _PHRASE.finditer(line):
        caption += line[end : match.start()]
        start = len(caption.split())
        if caption and not caption[-1].isspace():
            start -= 1  # the phrase continues a word, as in "half-[/EN#1/other eaten apple]"
        text = ' '.join(match[3].split())
        caption += text
        types = match[2][1:].split('/')
        phrases.append(MarkedPhrase(match[1], types, text, start, len(caption.split())))
        end = match.end()
    caption += line[end:]
    if '[/EN#' in caption:
        start = caption.index('[/EN#')
        raise ValueError(f'a phrase is not marked as [/EN#CHAIN/TYPE WORDS]: {caption[start:]!r}')
    return ' '.join(caption.split()), phrases
