"""Check the data sets of the papers on disk: what is missing, cut, damaged, doubled or leaking.

    python tools/dataset_converters/verify.py all
    python tools/dataset_converters/verify.py refcoco refcocog-u data/coco --images decode
    python tools/dataset_converters/verify.py refcoco refcocoplus refcocog-u --images none \\
        --exclusion-list coco_ids.txt

The last argument may be the folder of the data set or the one above it; without it the data sets are
where the configs look for them (configs/_base_/datasets/README.md). The exit status is 0 if nothing
is wrong, 1 if something is, and 2 if the command cannot be understood.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from dataset_checks import (
    Split,
    check_json_keys,
    check_leaks,
    check_leaks_between,
    check_pictures,
    check_records,
    check_refer_files,
)
from findings import Report
from known_datasets import DATASETS_OF_THE_PAPERS, KnownDataset, find, split_config
from mmengine.registry import init_default_scope
from streaming import stops_cleanly

import mmvg  # noqa: F401  (registers the data sets)
from mmvg.apis import concise_errors
from mmvg.datasets.atomic_output import atomic_output


def verify(
    names: Iterable[str],
    root: str | None = None,
    images: str = 'headers',
    threads: int = 8,
    totals: dict[str, dict[str, int]] | None = None,
    limit: int = 5,
    exclusion_list: str | None = None,
) -> Report:
    """Check data sets and what they have in common.

    Args:
        names (Iterable[str]): Keys of ``DATASETS_OF_THE_PAPERS``.
        root (str, optional): See :func:`known_datasets.find`.
        images (str): ``'none'``, ``'headers'`` or ``'decode'``.
        threads (int): Pictures to read at a time.
        totals (dict, optional): Data set -> split -> expressions that there must be, in place of
            the known ones. Only the splits that are named are looked for.
        limit (int): Examples per finding.
        exclusion_list (str, optional): File to write the COCO ids of the val and test pictures to,
            one per line, which a detector must not have been trained on.
    """
    report = Report(limit)
    read: dict[str, dict[str, Split]] = {}
    for name in names:
        known = DATASETS_OF_THE_PAPERS[name]
        expected = (totals or {}).get(name, known.totals)
        for layout in _layouts(known, expected, root):
            splits = _check_annotations(name, layout, expected, root, report)
            if images != 'none':
                _check_pictures(name, splits, root, images == 'decode', threads, report)
            # A further layout of the same data set has the same splits.
            read.setdefault(name, splits)
    for name, splits in read.items():
        check_leaks(splits, DATASETS_OF_THE_PAPERS[name].shares_pictures, name, report)
        for other, others in read.items():
            homes = {DATASETS_OF_THE_PAPERS[n].home for n in (name, other)}
            if name != other and len(homes) == 1 and 'train' in splits:
                check_leaks_between(splits['train'], name, others, other, report)
    if exclusion_list:
        _write_exclusion_list(read, exclusion_list, report)
    return report


def _layouts(known: KnownDataset, expected: dict, root: str | None) -> list[str]:
    """The layouts that are complete, or begun, or else the usual one."""
    begun, complete = [], []
    for name, layout in known.layouts.items():
        paths = [split_config(known, layout, split, root)[1] for split in expected]
        if any(files[0].exists() for files in paths):
            begun.append(name)
            if all(path.exists() for files in paths for path in files):
                complete.append(name)
    return complete or begun or list(known.layouts)[:1]


def _check_annotations(
    name: str, layout_name: str, expected: dict[str, int], root: str | None, report: Report
) -> dict[str, Split]:
    known = DATASETS_OF_THE_PAPERS[name]
    layout = known.layouts[layout_name]
    splits, absent, files = {}, set(), {}
    for split, total in expected.items():
        place = f'{name} {split}'
        cfg, paths = split_config(known, layout, split, root)
        files.update(dict.fromkeys(paths))
        missing = [path for path in paths if not path.exists()]
        for path in missing:
            if path not in absent:
                report.add('missing file', name, str(path), f'comes from: {layout.source}')
        absent.update(missing)
        splits[split] = Split(place) if missing else check_records(cfg, place, report)
        found = splits[split].queries
        if splits[split].complete and found != total:
            detail = f'{found:,} expressions instead of {total:,}'
            report.add('wrong count', place, str(paths[0]), detail)
            splits[split].full = False
        report.splits.append(
            dict(
                dataset=name,
                layout=layout_name,
                split=split,
                queries=None if missing else found,
                expected=total,
                pictures=None if missing else len(splits[split].sizes),
            )
        )
    if layout_name == 'refer' and not absent:
        check_refer_files(*files, known.totals, name, report)
    for file in files:
        if file.suffix == '.json' and file not in absent and layout_name == 'original':
            check_json_keys(file, name, report)
    return splits


def _check_pictures(
    name: str,
    splits: dict[str, Split],
    root: str | None,
    decode: bool,
    threads: int,
    report: Report,
) -> None:
    known = DATASETS_OF_THE_PAPERS[name]
    folder = find(known, known.pictures, root).absolute()
    if folder.is_dir():
        check_pictures(list(splits.values()), decode, threads, report)
    else:
        report.add('missing file', name, f'{folder}/', f'comes from: {known.pictures_source}')


def _write_exclusion_list(read: dict[str, dict[str, Split]], path: str, report: Report) -> None:
    """One that lacks a split would let its pictures through unnoticed: then none is written."""
    ids, problems = set(), []
    for name, splits in read.items():
        if DATASETS_OF_THE_PAPERS[name].home != 'coco':
            continue
        problems += [f'{s.place} was not read' for s in splits.values() if not s.complete]
        problems += [f'{s.place} is not whole' for s in splits.values() if not s.full]
        for split, content in splits.items():
            if split != 'train':
                ids |= content.pictures
    problems += [f'{i} is no picture of COCO' for i in ids if not isinstance(i, int)][:1]
    if not ids:
        problems.append('no data set of the RefCOCO family was read')
    if problems:
        report.add('exclusion list', path, 'not written', ', '.join(problems))
        return
    with atomic_output(path) as f:
        f.writelines(f'{i}\n' for i in sorted(ids))
    print(f'{path}: {len(ids):,} ids of COCO pictures')


def read_totals(path: str) -> dict[str, dict[str, int]]:
    """Data set -> split -> expressions, of a JSON file; all names must be known."""
    try:
        totals = json.loads(Path(path).read_text('utf-8'))
        for name, splits in totals.items():
            known = DATASETS_OF_THE_PAPERS[name].totals
            if not set(splits) <= set(known) or not all(
                isinstance(n, int) for n in splits.values()
            ):
                raise ValueError(f'{name} has the splits {", ".join(known)}, each with a number')
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise ValueError(
            f'{path} is no table of totals ({e!r}); it should be {{data set: {{split: expressions}}}}'
        ) from e
    return totals


def _datasets_and_root(words: list[str]) -> tuple[list[str], str | None]:
    root = None
    if words[-1] not in (*DATASETS_OF_THE_PAPERS, 'all'):
        *words, root = words
    known = f'{", ".join(DATASETS_OF_THE_PAPERS)}, or all'
    unknown = [word for word in words if word not in (*DATASETS_OF_THE_PAPERS, 'all')]
    if unknown:
        raise ValueError(f'{unknown[0]} is no data set; name {known}')
    if root and not Path(root).is_dir():
        raise ValueError(f'{root} is neither a data set ({known}) nor a folder that exists')
    if not words:
        raise ValueError(f'name the data set before the folder {root}: {known}')
    names = DATASETS_OF_THE_PAPERS if 'all' in words else dict.fromkeys(words)
    return list(names), root


def main() -> None:
    parser = argparse.ArgumentParser(
        usage='%(prog)s DATASET [DATASET ...] [ROOT] [options]',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('words', nargs='+', metavar='DATASET', help=', '.join([*DATASETS_OF_THE_PAPERS, 'all']))
    add(
        '--images',
        choices=['none', 'headers', 'decode'],
        default='headers',
        help='pictures: not looked at, headers read (default), or decoded, which takes minutes',
    )
    add('--threads', type=int, default=8, help='pictures to read at a time')
    add('--limit', type=int, default=5, help='examples per kind; all are counted')
    add('--json', metavar='FILE', help='also write the report as JSON')
    add(
        '--exclusion-list',
        metavar='FILE',
        help='write the COCO ids of all val and test pictures of the named data sets, one per line: '
        'pictures that a detector giving initial weights must not be trained on',
    )
    add(
        '--totals',
        metavar='FILE',
        help='JSON {data set: {split: expressions}} in place of the known totals, for subsets',
    )
    args = parser.parse_args()
    with concise_errors(), stops_cleanly():
        init_default_scope('mmdet')
        names, root = _datasets_and_root(args.words)
        totals = read_totals(args.totals) if args.totals else None
        report = verify(
            names, root, args.images, args.threads, totals, args.limit, args.exclusion_list
        )
        if args.json:
            with atomic_output(args.json) as f:
                json.dump(report.as_dict(), f, indent=1, ensure_ascii=False)
    print(report.as_text())
    raise SystemExit(1 if report.count('error') else 0)


if __name__ == '__main__':
    main()
