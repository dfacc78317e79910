"""MDETR's COCO-style files: an image record per sentence, and an annotation per box.

mmdet's ``MDETRStyleRefCocoDataset`` and ``Flickr30kDataset`` read them. The format needs the whole
file in memory to be read, as pycocotools does; it is written as a stream.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from grounding_entries import (
    Entry,
    corners,
    dumps,
    extent,
    plain_number,
    sentences,
    size_of,
    without_own_caption,
)

from mmvg.datasets.atomic_output import atomic_output
from mmvg.datasets.boxes import around

_OWN = ('file_name', 'height', 'width', 'caption')


def read_mdetr(
    path: str, counts: Counter, whole_caption: bool | None = None
) -> tuple[int, Iterator[Entry]]:
    """The number of image records, and an entry for each that has a box.

    What the JSONL schema has no place for stays under the key ``mdetr`` of entry and query.

    Args:
        path (str): The file.
        counts (Counter): Counts the image records without an annotation, which are left out.
        whole_caption (bool, optional): The query is the caption, not the phrases that
            ``tokens_positive`` marks in it. By default so in files of referring expressions, whose
            ``dataset_name`` begins with ``ref``.

    Raises:
        ValueError: If the file is something else; the message names the record.
    """
    try:
        with open(path, encoding='utf-8') as f:
            content = json.load(f)
        images = {image['id']: image for image in content['images']}
        annotations = {}
        for annotation in content['annotations']:
            annotations.setdefault(annotation['image_id'], []).append(annotation)
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f'{path} is not an MDETR file ({e!r}): it needs "images" and "annotations", each with '
            'ids; for one object per line use --from jsonl or odvg'
        ) from e
    for image_id in annotations.keys() - images.keys():
        raise ValueError(
            f'{path}: annotation {annotations[image_id][0].get("id")} belongs to image '
            f'{image_id}, which "images" does not have; take the file from its source again'
        )

    def entries() -> Iterator[Entry]:
        for image_id, image in images.items():
            if image_id not in annotations:
                counts['image records without a box, left out'] += 1
                continue
            try:
                yield _entry(image, annotations[image_id], whole_caption)
            except (ValueError, KeyError, TypeError, IndexError) as e:
                raise ValueError(
                    f'{path}: image record {image_id} or one of its annotations is not as MDETR '
                    f'writes them ({e!r}); correct or remove it'
                ) from e

    return len(images), entries()


def _entry(image: dict, annotations: list[dict], whole_caption: bool | None) -> Entry:
    caption = image['caption']
    if whole_caption is None:
        whole_caption = str(image.get('dataset_name', '')).startswith('ref')
    phrases = {}  # the annotations of a phrase are its boxes
    for annotation in annotations:
        key = json.dumps([annotation['tokens_positive'], annotation.get('phrase_ids')])
        phrases.setdefault(key, []).append(annotation)
    entry = {
        'image': image['file_name'],
        'height': int(image['height']),
        'width': int(image['width']),
        'caption': caption,
    }
    if isinstance(image.get('original_id'), (int, str)):
        entry['image_id'] = image['original_id']
    entry['queries'] = [
        _query(group, caption if whole_caption else None, caption) for group in phrases.values()
    ]
    entry['mdetr'] = {k: v for k, v in image.items() if k not in _OWN}
    return without_own_caption(entry)


def _query(annotations: list[dict], text: str | None, caption: str) -> dict:
    spans = annotations[0]['tokens_positive']
    if not all(0 <= start < end <= len(caption) for start, end in spans) or not spans:
        raise ValueError(f'tokens_positive {spans} are no spans of {caption!r}')
    boxes = [corners(*annotation['bbox']) for annotation in annotations]
    query = {
        'text': text or ' '.join(caption[start:end] for start, end in sorted(spans)),
        'bbox': around(boxes),
        'tokens_positive': spans,
    }
    if len(boxes) > 1:
        query['boxes'] = boxes
    for key, name in (('type', 'type'), ('original_id', 'id')):
        if isinstance(annotations[0].get(key), (int, str)):
            query[name] = annotations[0][key]
    query['mdetr'] = [{k: v for k, v in a.items() if k != 'image_id'} for a in annotations]
    return query


def write_mdetr(entries: Iterable[Entry], path: str | Path, dataset_name: str) -> None:
    """Write entries; the annotations wait in a temporary file until all images are written.

    Args:
        entries (Iterable): With image sizes.
        path (str | Path): The file to write.
        dataset_name (str): For mmdet's RefExpMetric ``refcoco``, ``refcoco+`` or ``refcocog``.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    image_ids, annotation_ids = _Ids(), _Ids()
    with (
        atomic_output(path) as out,
        tempfile.TemporaryFile('w+', encoding='utf-8', dir=folder) as waiting,
    ):
        out.write('{"info": {}, "licenses": [], "images": [')
        separator = ''
        between = ''
        for entry in entries:
            for caption, queries in sentences(entry):
                image = _image(entry, caption, queries, image_ids, dataset_name)
                out.write(f'{separator}\n{dumps(image)}')
                separator = ','
                for annotation in _annotations(image['id'], queries, annotation_ids):
                    waiting.write(f'{between}\n{dumps(annotation)}')
                    between = ','
        out.write('\n], "annotations": [')
        waiting.seek(0)
        for block in iter(lambda: waiting.read(1 << 20), ''):
            out.write(block)
        out.write('\n], "categories": [{"id": 1, "name": "object", "supercategory": "object"}]}\n')


class _Ids:
    """Gives each record its old id, if it had one that is free, or the next free number."""

    def __init__(self) -> None:
        self._used, self._next = set(), 0

    def take(self, wanted: Any = None) -> Any:
        while wanted is None or wanted in self._used:
            wanted, self._next = self._next, self._next + 1
        self._used.add(wanted)
        return wanted


def _image(
    entry: Entry, caption: str, queries: list, image_ids: _Ids, dataset_name: str
) -> dict[str, Any]:
    height, width = size_of(entry)
    image = {'file_name': entry['image'], 'height': height, 'width': width}
    if 'mdetr' in entry:
        image.update(entry['mdetr'], caption=caption)
    else:
        stem = PurePath(entry['image']).stem
        coco = re.fullmatch(r'COCO_\w+?_0*(\d+)', stem)
        image.update(
            caption=caption,
            original_id=entry.get('image_id', int(coco[1]) if coco else stem),
            dataset_name=dataset_name,
            tokens_negative=[[0, len(caption)]],
            tokens_positive_eval=[spans for _, spans in queries],
        )
    image['id'] = image_ids.take(image.get('id'))
    return image


def _annotations(image_id: Any, queries: list, ids: _Ids) -> list[dict]:
    made = []
    for index, (query, spans) in enumerate(queries):
        boxes = query.get('boxes', [query['bbox']])
        originals = query.get('mdetr', [])
        if [corners(*original['bbox']) for original in originals] == boxes:
            made.extend({**original, 'image_id': image_id} for original in originals)
            continue
        for box in boxes:
            x, y, width, height = (plain_number(v) for v in extent(*box))
            annotation = {
                'bbox': [x, y, width, height],
                'area': width * height,
                'iscrowd': 0,
                'category_id': 1,
                'image_id': image_id,
                'tokens_positive': spans,
                'phrase_ids': index,
            }
            for key, name in (('type', 'type'), ('id', 'original_id')):
                if key in query:
                    annotation[name] = query[key]
            made.append(annotation)
    for annotation in made:
        annotation['id'] = ids.take(annotation.get('id'))
    return sorted(made, key=lambda a: a['id']) if _numbered(made) else made


def _numbered(annotations: list[dict]) -> bool:
    return all(isinstance(a['id'], int) for a in annotations)
