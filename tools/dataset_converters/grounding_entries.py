"""The form that every conversion passes through: a line of GroundingJSONLDataset with what belongs
to it in other formats, so that it can be converted back without loss.

    {"image": "a.jpg", "height": 480, "width": 640, "caption": "A man holds a cup .",
     "queries": [{"text": "a cup", "bbox": [10, 20, 50, 80], "tokens_positive": [[12, 17]],
                  "boxes": [[10, 20, 30, 40], [35, 50, 50, 80]], "type": "other", "id": "4711"}]}

``caption`` is there where the queries are phrases of one sentence; ``tokens_positive`` are then
their character spans. ``boxes`` is there where a query has several, and ``bbox`` is the one around
them. Unknown keys are kept.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mmvg.datasets import GroundingJSONLDataset
from mmvg.datasets.atomic_output import atomic_output
from mmvg.datasets.boxes import around

Entry = dict[str, Any]


def read_lines(path: str, whole_caption: bool = False) -> Iterator[Entry]:
    """Read JSONL or ODVG grounding records, which may be mixed, line by line.

    Args:
        path (str): The file.
        whole_caption (bool): The query of an ODVG record is its caption, not the phrases in it.

    Raises:
        ValueError: If a line does not follow the schema; the message gives file, line and remedy.
    """
    schema = GroundingJSONLDataset(path, lazy_init=True, lower_case=False)
    for line, source in schema.lines():
        for _ in schema.records(line, source):
            pass  # each one is checked
        if 'filename' in line:
            yield _from_odvg(line, whole_caption)
        elif 'queries' in line:
            yield line
        else:
            common = {k: line[k] for k in ('image', 'height', 'width', 'caption') if k in line}
            query = {k: v for k, v in line.items() if k not in common}
            yield {**common, 'queries': [query]}


def _from_odvg(line: dict, whole_caption: bool) -> Entry:
    line = dict(line)
    entry = {'image': line.pop('filename')}
    grounding = dict(line.pop('grounding'))
    regions = grounding.pop('regions')
    entry.update(line, **grounding)
    entry['queries'] = []
    for region in regions:
        query = {k: v for k, v in region.items() if k not in ('phrase', 'bbox')}
        phrase, box = region['phrase'], region['bbox']
        text = phrase if isinstance(phrase, str) else ' '.join(phrase)
        if whole_caption and 'caption' in entry:
            text = entry['caption']
        query = {'text': text, 'bbox': box, **query}
        if phrase != text:
            query['phrase'] = phrase
        if isinstance(box[0], list):
            query.update(bbox=around(box), boxes=box)
        entry['queries'].append(query)
    return without_own_caption(entry)


def to_odvg(entries: Iterable[Entry]) -> Iterator[dict]:
    """ODVG grounding records: one per caption, or per query where there is no caption."""
    for entry in entries:
        height, width = size_of(entry)
        placed = ('image', 'height', 'width', 'caption', 'queries')
        rest = {k: v for k, v in entry.items() if k not in placed}
        for caption, queries in sentences(entry):
            regions = []
            for query, spans in queries:
                region = {
                    'bbox': query.get('boxes', query['bbox']),
                    'phrase': query.get('phrase', query['text']),
                    'tokens_positive': spans,
                }
                placed = ('text', 'boxes', *region)
                region.update((k, v) for k, v in query.items() if k not in placed)
                regions.append(region)
            grounding = {'caption': caption, 'regions': regions}
            sizes = {'height': height, 'width': width}
            yield {'filename': entry['image'], **sizes, 'grounding': grounding, **rest}


def write_lines(lines: Iterable[dict], path: str | Path) -> None:
    """Write objects as UTF-8 text, one per line."""
    with atomic_output(path) as f:
        for line in lines:
            f.write(dumps(line) + '\n')


def dumps(value: dict) -> str:
    """JSON on one line; a number that JSON cannot hold is an error that names the picture."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as e:
        name = value.get('image', value.get('filename', value.get('file_name')))
        raise ValueError(
            f'{name}: a number is NaN or infinite, which JSON cannot hold: {value!r:.500}; correct '
            'or remove the record'
        ) from e


def counted(entries: Iterable[Entry], counts: Counter) -> Iterator[Entry]:
    """Pass entries on and count pictures and queries."""
    for entry in entries:
        counts['picture records'] += 1
        counts['queries'] += len(entry['queries'])
        yield entry


def grouped(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Merge neighbours that differ in their queries only. Sentences stay apart."""
    current = None
    for entry in entries:
        if current and 'caption' not in entry and _common(current) == _common(entry):
            current['queries'] = current['queries'] + entry['queries']
            continue
        if current:
            yield current
        current = dict(entry)
    if current:
        yield current


def _common(entry: Entry) -> dict:
    return {k: v for k, v in entry.items() if k != 'queries'}


def sized(entries: Iterable[Entry], image_dir: str | None) -> Iterator[Entry]:
    """Take missing image sizes from the headers of the pictures."""
    path = size = None
    for entry in entries:
        if image_dir and not (entry.get('height') and entry.get('width')):
            if path != Path(image_dir, entry['image']):
                path = Path(image_dir, entry['image'])
                try:
                    with Image.open(path) as image:
                        size = image.size
                except OSError as e:
                    raise ValueError(f'{path}: cannot be read ({e}); correct --images') from e
            entry = {'image': entry['image'], 'height': size[1], 'width': size[0], **entry}
        yield entry


def size_of(entry: Entry) -> tuple[int, int]:
    """Height and width, which mmdet's formats must have."""
    if not (entry.get('height') and entry.get('width')):
        raise ValueError(
            f'{entry["image"]} has no "height" and "width", which ODVG and MDETR files need; give '
            'the folder of the pictures with --images'
        )
    return int(entry['height']), int(entry['width'])


def sentences(entry: Entry) -> Iterator[tuple[str, list[tuple[dict, list]]]]:
    """Each caption with its queries and their character spans.

    Without a caption every query is a sentence of its own, as in referring expressions.
    """
    if 'caption' not in entry:
        for query in entry['queries']:
            yield query['text'], [(query, [[0, len(query['text'])]])]
        return
    caption = entry['caption']
    queries = []
    for query in entry['queries']:
        spans = query.get('tokens_positive')
        if spans is None:
            start = caption.lower().find(query['text'].lower())
            if start < 0:
                raise ValueError(
                    f'{entry["image"]}: the query {query["text"]!r} does not occur in the caption '
                    f'{caption!r}; give its character spans as "tokens_positive"'
                )
            spans = [[start, start + len(query['text'])]]
        queries.append((query, spans))
    yield caption, queries


def without_own_caption(entry: Entry) -> Entry:
    """Drop a caption that is nothing but the only query: the reverse of :func:`sentences`."""
    caption, (query, *others) = entry.get('caption'), entry['queries']
    whole = None if caption is None else [[0, len(caption)]]
    if others or query['text'] != caption or query.get('tokens_positive') != whole:
        return entry
    entry = {k: v for k, v in entry.items() if k != 'caption'}
    entry['queries'] = [{k: v for k, v in query.items() if k != 'tokens_positive'}]
    return entry


def character_spans(caption: str, words: tuple[int, int]) -> list[list[int]]:
    """Character span of the words [start, end) of a caption whose words are apart by spaces."""
    found = list(re.finditer(r'\S+', caption))[slice(*words)]
    return [[found[0].start(), found[-1].end()]]


def corners(x: float, y: float, width: float, height: float) -> list[float]:
    """x1 y1 x2 y2 of a box of COCO."""
    return [x, y, x + width, y + height]


def extent(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """x y width height: the reverse of :func:`corners`, to the last digit.

    Of the numbers that give x2 when added to x1, the shortest is the one that was added: 1.1 + 2
    is 3.1, but 3.1 - 1.1 is 2.0000000000000004 and 3.3 - 1.3 is 1.9999999999999998, which the
    integer truncation of the official code would make 1.
    """
    return [x1, y1, _difference(x1, x2), _difference(y1, y2)]


def _difference(start: float, end: float) -> float:
    for digits in range(16):
        rounded = round(end - start, digits)
        if start + rounded == end:
            return rounded
    return end - start


def plain_number(value: Any) -> int | float:
    """A number for JSON: whole ones as integers, whatever type they were stored as."""
    value = float(value)
    return int(value) if value.is_integer() else value
