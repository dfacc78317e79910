import json
import os.path as osp
from collections.abc import Iterator
from typing import Any

from mmdet.registry import DATASETS

from .boxes import around
from .grounding_dataset import GroundingDataset


@DATASETS.register_module()
class GroundingJSONLDataset(GroundingDataset):
    """Your own data: a UTF-8 text file with one JSON object per line, an image with its queries.

    Three forms may be mixed in one file. Several queries of an image::

        {"image": "a.jpg", "height": 480, "width": 640, "queries": [
            {"text": "the red cup", "bbox": [10, 20, 50, 80], "type": "attribute", "id": 7},
            {"text": "cup on the left", "bbox": [10, 20, 50, 80]}]}

    one query::

        {"image": "a.jpg", "text": "the red cup", "bbox": [10, 20, 50, 80]}

    and mmdet's ODVG grounding records, of which each region is a query::

        {"filename": "a.jpg", "height": 480, "width": 640, "grounding": {
            "caption": "a red cup", "regions": [
                {"phrase": "a red cup", "bbox": [10, 20, 50, 80], "tokens_positive": [[0, 9]]}]}}

    (objects stand on one line each; they are broken here to be read). ``bbox`` is x1, y1, x2, y2 in
    pixels of the image. ``height``, ``width``, ``type`` (for figures per type) and ``id`` are
    optional; images are relative to ``data_prefix=dict(img=...)``. Other keys are ignored. Every
    query is a sample of its own unless ``group_by_image`` is set.

    Args:
        ann_file (str): The file.
        multi_box (str): What to do with an ODVG region of several boxes: ``'union'`` takes the box
            around them, ``'error'`` refuses them.
        lower_case (bool): Lower the case of every query.
        **kwargs: As of :class:`GroundingDataset`.

    Raises:
        FileNotFoundError: If the file is absent.
        ValueError: If a line does not follow the schema; the message gives file, line and remedy.
    """

    def __init__(
        self, ann_file: str, multi_box: str = 'union', lower_case: bool = True, **kwargs
    ) -> None:
        if multi_box not in ('union', 'error'):
            raise ValueError(f"multi_box must be 'union' or 'error', got {multi_box!r}")
        self.multi_box = multi_box
        self.lower_case = lower_case
        super().__init__(ann_file, **kwargs)

    def load_data_list(self) -> Iterator[dict]:
        """One record per query, in the order of the file."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'{self.ann_file} does not exist. It should be a JSONL file with one object per '
                'line, e.g. {"image": "a.jpg", "text": "the red cup", "bbox": [10, 20, 50, 80]}; '
                'write it, or correct data_root or ann_file in the dataset config'
            )
        return (record for entry, source in self.lines() for record in self.records(entry, source))

    def lines(self) -> Iterator[tuple[dict, str]]:
        """The objects of the file, each with its line for messages; blank lines are passed over.

        Raises:
            ValueError: If a line is not UTF-8 or holds no JSON object.
        """
        with open(self.ann_file, 'rb') as f:
            for number, line in enumerate(f, 1):
                source = f'{self.ann_file}:{number}'
                try:
                    text = line.decode('utf-8-sig' if number == 1 else 'utf-8').strip()
                    if not text:
                        continue
                    entry = json.loads(text)
                except UnicodeDecodeError as e:
                    raise ValueError(
                        f'{source}: byte {e.start + 1} of the line is not UTF-8; save the '
                        'whole file in that encoding'
                    ) from e
                except json.JSONDecodeError as e:
                    raise ValueError(
                        f'{source}: no valid JSON ({e.msg}, column {e.colno}); put one '
                        'complete object on each line'
                    ) from e
                _expect(entry, dict, 'the line', 'an object {...}', source)
                yield entry, source

    def records(self, entry: dict, source: str) -> Iterator[dict]:
        """One record per query of an object of :meth:`lines`.

        Raises:
            ValueError: If the object does not follow the schema.
        """
        odvg = 'filename' in entry
        name = entry['filename'] if odvg else _get(entry, 'image', 'the line', source)
        _expect(name, str, '"filename"' if odvg else '"image"', 'a file name', source)
        image = dict(img_path=osp.join(self.image_dir, name), img_id=name)
        for key in ('height', 'width'):
            if entry.get(key) is not None:
                _expect(entry[key], int, f'"{key}"', 'a number of pixels', source)
                image[key] = entry[key]
        queries = self._odvg_queries(entry, source) if odvg else self._plain_queries(entry, source)
        for i, query in enumerate(queries):
            yield dict(image, **query, source=f'{source}, query {i}')

    def _plain_queries(self, entry: dict, source: str) -> Iterator[dict]:
        if 'queries' in entry:
            _expect(entry['queries'], list, '"queries"', 'a list of objects', source)
            items = [(item, f'query {i}') for i, item in enumerate(entry['queries'])]
            if not items:
                raise ValueError(f'{source}: "queries" is empty; add a query or remove the line')
        else:
            items = [(entry, 'the line')]
        for item, where in items:
            _expect(item, dict, where, 'an object {"text": ..., "bbox": ...}', source)
            box = _box(_get(item, 'bbox', where, source), where, source)
            query = self._query(_get(item, 'text', where, source), box, where, source)
            if item.get('type') is not None:
                query['query_types'] = [
                    _expect(item['type'], str, f'"type" of {where}', 'text', source)
                ]
            if item.get('id') is not None:
                query['query_ids'] = [
                    _expect(item['id'], (int, str), f'"id" of {where}', 'a number or text', source)
                ]
            yield query

    def _odvg_queries(self, entry: dict, source: str) -> Iterator[dict]:
        if 'grounding' not in entry:
            raise ValueError(
                f'{source}: an ODVG record without "grounding" (a detection record, perhaps) '
                'has no query; keep the grounding records only'
            )
        grounding = _expect(entry['grounding'], dict, '"grounding"', 'an object', source)
        regions = _expect(
            _get(grounding, 'regions', '"grounding"', source),
            list,
            '"regions"',
            'a list of objects',
            source,
        )
        if not regions:
            raise ValueError(f'{source}: "regions" is empty; give a region or remove the line')
        for i, region in enumerate(regions):
            where = f'region {i}'
            _expect(region, dict, where, 'an object {"phrase": ..., "bbox": ...}', source)
            phrase = _get(region, 'phrase', where, source)
            if isinstance(phrase, list):  # mmdet's converter lists the parts of a split phrase
                phrase = ' '.join(
                    _expect(p, str, f'"phrase" of {where}', 'text', source) for p in phrase
                )
            box = self._region_box(_get(region, 'bbox', where, source), where, source)
            yield self._query(phrase, box, where, source)

    def _region_box(self, value: Any, where: str, source: str) -> list[float]:
        if not (isinstance(value, list) and value and isinstance(value[0], list)):
            return _box(value, where, source)
        boxes = [_box(v, where, source) for v in value]
        if len(boxes) > 1 and self.multi_box == 'error':
            raise ValueError(
                f'{source}: {where} has {len(boxes)} boxes; keep one, or set '
                "multi_box='union' to take the box around them"
            )
        return around(boxes)

    def _query(self, text: Any, box: list[float], where: str, source: str) -> dict:
        _expect(text, str, f'the query of {where}', 'text', source)
        return dict(queries=[text.lower() if self.lower_case else text], bboxes=[box])


def _get(item: dict, key: str, where: str, source: str) -> Any:
    if key not in item:
        raise ValueError(
            f'{source}: {where} has no "{key}"; it has '
            f'{", ".join(map(repr, item)) or "no key"}. Add it: the class docstring of '
            'GroundingJSONLDataset shows the forms'
        )
    return item[key]


def _expect(value: Any, kind: type | tuple, what: str, wanted: str, source: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f'{source}: {what} should be {wanted}, but is {value!r}')
    return value


def _box(value: Any, where: str, source: str) -> list[float]:
    wanted = 'four numbers [x1, y1, x2, y2]'
    _expect(value, list, f'"bbox" of {where}', wanted, source)
    if len(value) != 4:
        raise ValueError(
            f'{source}: "bbox" of {where} should be {wanted}, but has {len(value)}: {value!r}'
        )
    return [float(_expect(v, (int, float), f'"bbox" of {where}', wanted, source)) for v in value]
