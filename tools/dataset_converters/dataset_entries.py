"""Entries of any registered GroundingDataset, which reads an official layout."""

import inspect
import os.path as osp
from collections.abc import Iterator
from pathlib import Path

from grounding_entries import Entry, character_spans, plain_number
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmvg.apis import class_of, split_datasets
from mmvg.datasets import GroundingDataset


def dataset_configs(cfg: Config) -> dict[str, dict]:
    """The data sets of a config by split or name, each once."""
    found = {}
    for part, one in split_datasets(cfg):
        found.setdefault(str(one.get('split') or one.get('name') or part), dict(one))
    return found


def build(cfg: dict, as_configured: bool = False, skip_invalid: bool = False) -> GroundingDataset:
    """Build the data set without its pipeline, one record per query or caption.

    Args:
        cfg (dict): Config of a data set.
        as_configured (bool): Keep ``lower_case``, ``truncate_boxes`` and ``multi_box``. By default
            text and boxes come as they are in the files.
        skip_invalid (bool): Leave bad records out instead of raising.
    """
    cfg = {**cfg, 'pipeline': [], 'group_by_image': False}
    kind = class_of(cfg)
    if not issubclass(kind, GroundingDataset):
        raise ValueError(f"{cfg['type']} is not one of mmvg's grounding data sets")
    if not as_configured:
        known = _arguments(kind)
        for key in {'lower_case', 'truncate_boxes'} & known:
            cfg[key] = False
        if 'annotation_dir' in known and cfg.get('layout', 'entities') == 'entities':
            cfg['multi_box'] = 'any'  # all boxes beside the one around them
    if skip_invalid:
        cfg['invalid'] = 'skip'
    return DATASETS.build(cfg)


def _arguments(kind: type) -> set[str]:
    return {
        name for base in kind.__mro__[:-1] for name in inspect.signature(base.__init__).parameters
    }


def read_dataset(dataset: GroundingDataset) -> Iterator[Entry]:
    """An entry per record, in the order of the data set."""
    folder = dataset.image_dir
    for index in range(len(dataset)):
        yield _entry(dataset.get_data_info(index), folder)


def _entry(record: dict, folder: str) -> Entry:
    if 'img_path' not in record or 'bboxes' not in record:
        raise ValueError(f'{record.get("source", "a record")} has no picture on disk or no box')
    image = Path(osp.relpath(record['img_path'], folder or '.')).as_posix()
    entry = {'image': image}
    entry.update((k, record[k]) for k in ('height', 'width') if record.get(k))
    if str(record['img_id']) != image:
        entry['image_id'] = record['img_id']
    if 'caption' in record:
        entry['caption'] = record['caption']
    if record.get('sentence_id') is not None:
        entry['sentence_id'] = record['sentence_id']
    entry['queries'] = [_query(record, i) for i in range(len(record['queries']))]
    return entry


def _query(record: dict, i: int) -> dict:
    query = {'text': record['queries'][i], 'bbox': _numbers(record['bboxes'][i])}
    if len(record.get('all_bboxes', {i: ()})[i]) > 1:
        query['boxes'] = [_numbers(box) for box in record['all_bboxes'][i]]
    if 'query_spans' in record and 'caption' in record:
        query['tokens_positive'] = character_spans(record['caption'], record['query_spans'][i])
    for key, name in (('query_types', 'type'), ('query_ids', 'id')):
        if record.get(key) and record[key][i] is not None:
            query[name] = record[key][i]
    return query


def _numbers(box: list[float]) -> list[int | float]:
    return [plain_number(value) for value in box]
