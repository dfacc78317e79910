"""TransVG's index files: a list of rows written by torch.save, one row per expression.

A row is (image, mask file, box, phrase, attributes), or (image, box, phrase) for Flickr30k
Entities. Boxes are x y width height in the files of the COCO family and x1 y1 x2 y2 in the others
(spec section 1.1). The format needs all rows in memory.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from grounding_entries import Entry, corners, extent, plain_number

from mmvg.datasets.atomic_output import atomic_output
from mmvg.datasets.safe_pickle import load_torch_index


def read_rows(path: str, box_format: str | None = None) -> tuple[int, Iterator[Entry]]:
    """The number of rows, and an entry for each row.

    Mask file and attributes stay under the key ``transvg`` of the query.

    Args:
        path (str): The file; it is read by a restricted unpickler.
        box_format (str, optional): ``'xywh'`` or ``'xyxy'``; by default xywh for the pictures of
            COCO (``COCO_*.jpg``).

    Raises:
        ValueError: If the file is something else; the message names the row.
    """
    rows = load_torch_index(path)
    if not isinstance(rows, list):
        raise ValueError(f'{path} is not a TransVG index file: it holds no list of rows')

    def entries() -> Iterator[Entry]:
        for number, row in enumerate(rows):
            try:
                if len(row) == 5:
                    image, mask, box, text, attributes = row
                    rest = {'transvg': {'mask': mask, 'attributes': attributes}}
                else:
                    (image, box, text), rest = row, {}
                box = [plain_number(value) for value in box]
                if (box_format or default_box_format(image)) == 'xywh':
                    box = corners(*box)
                if not isinstance(text, str):
                    raise TypeError(f'the expression is {text!r}')
                bbox = [plain_number(value) for value in box]
                yield {'image': image, 'queries': [{'text': text, 'bbox': bbox, **rest}]}
            except (TypeError, ValueError, AttributeError, OverflowError) as e:
                raise ValueError(
                    f'{path}: row {number} is not a row of TransVG ({e}): {str(row)[:200]}; take '
                    'the file from its source again'
                ) from e

    return len(rows), entries()


def write_rows(
    entries: Iterable[Entry], path: str | Path, parts: int = 5, box_format: str | None = None
) -> None:
    """Write one row per query.

    Args:
        entries (Iterable): Entries; image sizes, captions, types and ids have no place in a row.
        path (str | Path): The file to write.
        parts (int): 5, or 3 as in the files of Flickr30k Entities.
        box_format (str, optional): As in :func:`read_rows`.
    """
    rows = []
    for entry in entries:
        image = entry['image']
        form = box_format or default_box_format(image)
        if parts == 3 and form == 'xywh':
            raise ValueError(f'{image}: rows of three parts have x1 y1 x2 y2; drop --rows 3')
        for query in entry['queries']:
            box = extent(*query['bbox']) if form == 'xywh' else query['bbox']
            box, text = [plain_number(value) for value in box], query['text']
            if parts == 3:
                rows.append((image, box, text))
                continue
            # Nobody reads these two, but the official loader expects five parts.
            kept = query.get('transvg', {})
            attributes = [(name, words) for name, words in kept.get('attributes', [])]
            rows.append((image, kept.get('mask', ''), box, text, attributes))
    with atomic_output(path, 'wb') as f:
        torch.save(rows, f, _use_new_zipfile_serialization=False)  # as the official files


def default_box_format(image: str) -> str:
    """``'xywh'`` for COCO's pictures, whose boxes are COCO's; ``'xyxy'`` for all others."""
    return 'xywh' if image.startswith('COCO_') else 'xyxy'
