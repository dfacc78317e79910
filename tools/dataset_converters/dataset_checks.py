"""The checks of verify.py, each of which adds what it finds to a report."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from dataset_entries import build
from findings import Report
from PIL import Image
from streaming import tracked

from mmvg.datasets.record_checks import record_problem
from mmvg.datasets.safe_pickle import load_refs

_EXIF_ORIENTATION = 0x0112
# In px: indices that count from 1, and boxes that end behind their last pixel, are no defect.
_BORDER = 1.0


@dataclass
class Split:
    """What a pass over the records of a split leaves for the checks that come after it.

    Attributes:
        place (str): Its name in the report.
        complete (bool): Whether it was read to its end.
        full (bool): Whether it has as many expressions as are known of it.
        queries (int): Number of expressions.
        sizes (dict): Picture file -> annotated (width, height), or None if there is none.
        unsized (dict): Picture file -> (record, query, box), of pictures without annotated size.
    """

    place: str
    complete: bool = False
    full: bool = True
    queries: int = 0
    sizes: dict[str, tuple | None] = field(default_factory=dict)
    unsized: dict[str, list] = field(default_factory=dict)
    _contents: Counter = field(default_factory=Counter)
    _content_of_id: dict = field(default_factory=dict)

    @property
    def pictures(self) -> set[int | str]:
        """Names of the pictures; of COCO's their ids, which are the same in every edition."""
        return {_picture_key(path) for path in self.sizes}


def _picture_key(path: str) -> int | str:
    name = Path(path).name
    coco = re.fullmatch(r'COCO_\w+?_0*(\d+)\.\w+', name)
    return int(coco[1]) if coco else name


def check_records(cfg: dict, place: str, report: Report) -> Split:
    """Read a split and check each of its records.

    Args:
        cfg (dict): Config of the data set class.
        place (str): Name of the split in the report.
        report (Report): Takes the findings.
    """
    split = Split(place)
    try:
        dataset = build({**cfg, 'lazy_init': True, 'test_mode': True})
        for record in tracked(dataset.load_data_list(), f'{place}: records'):
            _check_record(record, split, report)
    except (ValueError, FileNotFoundError) as error:
        report.add('unreadable annotation', place, str(error))
    else:
        split.complete = True
    return split


def _check_record(record: dict, split: Split, report: Report) -> None:
    source = str(record.get('source', record.get('img_path')))
    # Each query on its own below; here what concerns the record as a whole.
    kind, detail = _problem({**record, 'width': None, 'height': None})
    if kind in ('no query', 'box count', 'no answer') or 'problem' in record:
        report.add(kind, split.place, source, detail)
        return
    path, size = record['img_path'], (record.get('width'), record.get('height'))
    size = size if all(size) else None
    earlier = split.sizes.setdefault(path, size)
    if earlier != size:
        detail = f'{path} is {_by(size)} here but {_by(earlier)} in an earlier record'
        report.add('picture size', split.place, source, detail)
    for i, (query, box) in enumerate(zip(record['queries'], record['bboxes'])):
        split.queries += 1
        where = source if len(record['queries']) == 1 else f'{source}, query {i}'
        for one in record['all_bboxes'][i] if 'all_bboxes' in record else [box]:
            if not _check_box(query, one, size, where, split.place, report) and not size:
                split.unsized.setdefault(path, []).append((where, query, one))
        if 'caption' not in record:  # chains of Flickr30k, and their phrases, come often
            key = record['query_ids'][i] if record.get('query_ids') else None
            _check_repetition(key, (path, tuple(box), query), where, split, report)


def _problem(record: dict) -> tuple[str, str]:
    kind, _, detail = (record_problem(record) or '').partition(': ')
    return kind, detail


def _check_box(
    query: str, box: list, size: tuple | None, source: str, place: str, report: Report
) -> bool:
    """Whether query and box have a problem, which is reported."""
    width, height = size or (None, None)
    kind, detail = _problem(dict(queries=[query], bboxes=[box], width=width, height=height))
    if kind:
        report.add(kind, place, source, detail)
    elif size:
        over = max(-box[0], -box[1], box[2] - width, box[3] - height)
        if over > _BORDER:
            detail = f'{box} leaves the picture of {_by(size)} by {over:g} px'
            report.add('box over the border', place, source, detail, 'warning')
    return bool(kind)


def _check_repetition(
    key: object, content: tuple, where: str, split: Split, report: Report
) -> None:
    content = hash(content)  # the texts of a whole data set would take much more memory
    if key is not None and split._content_of_id.setdefault(key, content) != content:
        detail = f'the id {key!r} belongs to an earlier, different record, too'
        report.add('duplicate id', split.place, where, detail)
    if split._contents[content]:
        report.add('repeated expression', split.place, where, severity='note')
    split._contents[content] += 1


def check_refer_files(
    refs_file: Path, instances_file: Path, splits: Iterable[str], place: str, report: Report
) -> None:
    """Check ids of a refs pickle and its instances.json, of which the reader sees but one each.

    Args:
        refs_file (Path): ``refs(...).p``.
        instances_file (Path): ``instances.json``.
        splits (Iterable[str]): The splits that the data set has.
        place (str): Name in the report.
        report (Report): Takes the findings.
    """
    try:
        with open(instances_file, encoding='utf-8') as f:
            instances = json.load(f)
        ids = {}
        for name in ('annotations', 'images'):
            ids[name] = Counter(item['id'] for item in instances[name])
            for key in _repeated(ids[name]):
                report.add('duplicate id', place, f'{instances_file}: "{name}"', f'id {key}')
        refs = load_refs(str(refs_file))
        for key in _repeated(Counter(ref['ref_id'] for ref in refs)):
            report.add('duplicate id', place, f'{refs_file}: ref {key}', 'this ref_id comes twice')
        owners = {}
        for ref in refs:
            source = f'{refs_file}: ref {ref["ref_id"]}'
            for key, name in (('ann_id', 'annotations'), ('image_id', 'images')):
                if ref[key] not in ids[name]:
                    detail = f'{key} {ref[key]} is not in "{name}" of {instances_file}'
                    report.add('missing annotation', place, source, detail)
            for sentence in ref['sentences']:
                owner = owners.setdefault(sentence['sent_id'], ref['ref_id'])
                if owner != ref['ref_id']:
                    detail = f'sentence {sentence["sent_id"]} belongs to ref {owner}, too'
                    report.add('duplicate id', place, source, detail)
            if ref['split'] not in splits:
                report.add('unknown split', place, source, repr(ref['split']), 'warning')
    except (ValueError, KeyError, TypeError) as error:
        report.add('unreadable annotation', place, f'{refs_file} or {instances_file}', repr(error))


def check_json_keys(file: Path, place: str, report: Report) -> None:
    """Find regions that a JSON object of ReferItGame has twice; a reader sees the last ones."""

    def note(pairs: list[tuple[str, object]]) -> None:
        for key in _repeated(Counter(key for key, _ in pairs)):
            report.add('duplicate id', place, str(file), f'the key {key!r} comes twice')

    try:
        with open(file, encoding='utf-8') as f:
            json.load(f, object_pairs_hook=note)
    except ValueError:
        pass  # the reader has reported it


def _repeated(counts: Counter) -> list:
    return [key for key, count in counts.items() if count > 1]


def check_pictures(splits: list[Split], decode: bool, threads: int, report: Report) -> None:
    """Open every picture once, and check boxes that could not be checked without it.

    Args:
        splits (list[Split]): Those of a data set.
        decode (bool): Decode whole pictures, which finds those that are cut off; otherwise their
            headers are read.
        threads (int): Files to read at a time.
        report (Report): Takes the findings.
    """
    owners = {}
    for split in splits:
        for path in split.sizes:
            owners.setdefault(path, []).append(split)
    with ThreadPoolExecutor(threads) as pool:
        opened = pool.map(lambda path: _open(path, decode), owners)
        for path, (size, kind, detail) in zip(owners, tracked(opened, 'pictures', len(owners))):
            if kind:
                report.add(kind, owners[path][0].place, path, detail)
                continue
            for split in owners[path]:
                annotated = split.sizes[path]
                if annotated and annotated != size:
                    detail = f'is {_by(size)}, the annotation says {_by(annotated)}'
                    report.add('picture size', split.place, path, detail)
                for where, query, box in split.unsized.get(path, ()):
                    _check_box(query, box, size, where, split.place, report)


def _open(path: str, decode: bool) -> tuple[tuple | None, str, str]:
    """Width and height as the loader gives them; or kind and detail of the problem."""
    try:
        with Image.open(path) as image:
            size = image.size
            if image.getexif().get(_EXIF_ORIENTATION, 1) >= 5:
                size = size[::-1]
            if decode:
                image.load()
        return size, '', ''
    except FileNotFoundError:
        return None, 'missing picture', ''
    except Exception as error:  # decoders raise nearly anything on damaged files
        return None, 'unreadable picture', str(error) or type(error).__name__


def check_leaks(splits: dict[str, Split], excuse: str, name: str, report: Report) -> None:
    """Pictures that two splits of a data set have in common.

    Args:
        splits (dict): Split -> what was read.
        excuse (str): Why they may have some, or ''.
        name (str): The data set.
        report (Report): Takes the findings.
    """
    for (one, first), (other, second) in combinations(splits.items(), 2):
        for key in _shared(first, second):
            report.add(
                *('leak between splits', f'{name} {one} and {other}', f'picture {key}', excuse),
                severity='warning' if excuse else 'error',
            )


def check_leaks_between(
    train: Split, name: str, evaluation: dict[str, Split], other: str, report: Report
) -> None:
    """Pictures that a data set trains on and another evaluates on.

    They are there in the official files, hence a warning: whoever trains on the one must not
    report figures of the other.

    Args:
        train (Split): Training split of the first data set.
        name (str): The first data set.
        evaluation (dict): Splits of the other one.
        other (str): The other one.
        report (Report): Takes the findings.
    """
    for split, second in evaluation.items():
        if split != 'train':
            place = f'training on {name}, evaluation on {other} {split}'
            for key in _shared(train, second):
                report.add('leak between data sets', place, f'picture {key}', '', 'warning')


def _shared(first: Split, second: Split) -> list:
    return sorted(first.pictures & second.pictures, key=str)


def _by(size: tuple | None) -> str:
    return f'{size[0]} x {size[1]}' if size else 'of unknown size'
