"""Convert grounding annotations from one format into another.

    # every split of a data set, from its official files
    python tools/dataset_converters/convert.py configs/_base_/datasets/refcoco.py 'refcoco_{split}.jsonl'
    # one split; data set by name and arguments
    python tools/dataset_converters/convert.py ReferItGameDataset referit_val.jsonl --cfg-options \\
        layout=transvg data_root=data/referit ann_file=referit_val.pth
    # to and from mmdet's ODVG grounding records, MDETR's files, TransVG's index files
    python tools/dataset_converters/convert.py refcoco_val.jsonl refcoco_val_vg.jsonl --to odvg
    python tools/dataset_converters/convert.py refcoco_val.jsonl finetune_refcoco_val.json --to mdetr
    python tools/dataset_converters/convert.py refcoco_val.jsonl unc_val.pth

Formats: jsonl (GroundingJSONLDataset), odvg, mdetr, transvg; as source also dataset: a config whose
data sets are read, or the name of a data set class. Output files appear when they are complete;
after an interruption the same command with --resume makes those that are missing.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dataset_entries import build, dataset_configs, read_dataset
from grounding_entries import (
    Entry,
    counted,
    grouped,
    read_lines,
    sized,
    to_odvg,
    write_lines,
)
from mdetr_json import read_mdetr, write_mdetr
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from streaming import count_lines, stops_cleanly, tracked
from transvg_rows import read_rows, write_rows

import mmvg  # noqa: F401  (registers the data sets)
from mmvg.apis import concise_errors, load_config

BY_SUFFIX = {'.jsonl': 'jsonl', '.pth': 'transvg'}


def source_format(source: str) -> str:
    """What a source is, from its name and, for .json, its first bytes."""
    path = Path(source)
    if path.suffix == '.py' or source in DATASETS.module_dict:
        return 'dataset'
    if path.suffix in BY_SUFFIX:
        return BY_SUFFIX[path.suffix]
    if path.suffix == '.json' and path.is_file():
        with open(path, encoding='utf-8', errors='replace') as f:
            return 'odvg' if '"filename"' in f.read(4096) else 'mdetr'
    raise ValueError(
        f'{source}: not a config (.py), data set class, .jsonl, .json or .pth file that exists; '
        'correct the name, or give --from'
    )


def target_format(out: str) -> str:
    """What to write, from the name of the file."""
    suffix = Path(out).suffix
    if suffix not in BY_SUFFIX:
        raise ValueError(f'{out}: say with --to whether this is to be jsonl, odvg or mdetr')
    return BY_SUFFIX[suffix]


def dataset_parts(args: argparse.Namespace) -> dict[str, dict]:
    """The data sets to convert, by the name that stands for {split} in the output."""
    init_default_scope('mmdet')
    if args.source in DATASETS.module_dict:
        cfg = Config({'type': args.source})
        cfg.merge_from_dict(args.cfg_options or {})  # dotted keys, as for a config
        cfg = cfg.to_dict()
        return {str(cfg.get('split') or cfg.get('name') or 'all'): cfg}
    found = dataset_configs(load_config(args.source, args.cfg_options))
    unknown = sorted(set(args.split or []) - found.keys())
    if unknown:
        raise ValueError(f'{args.source} has no split {", ".join(unknown)}, but {", ".join(found)}')
    chosen = {name: found[name] for name in args.split or found}
    if len(chosen) != 1 and '{split}' not in args.out:
        raise ValueError(
            f'{args.source} has the splits {", ".join(found)}: choose one with --split, or write '
            f'{{split}} in the name of the output to convert all'
        )
    return chosen


def read(args: argparse.Namespace, part: dict | None, counts: Counter) -> Iterator[Entry]:
    """The entries of one source, with a progress bar."""
    if part is not None:
        dataset = build(part, args.as_configured, args.skip_invalid)
        return tracked(read_dataset(dataset), 'records', len(dataset))
    if args.source_format == 'mdetr':
        total, entries = read_mdetr(
            args.source, counts, {'caption': True, 'phrase': False}.get(args.query)
        )
        return tracked(entries, 'image records', total)
    if args.source_format == 'transvg':
        total, entries = read_rows(args.source, args.box_format)
        return tracked(entries, 'rows', total)
    lines = read_lines(args.source, args.query == 'caption')
    return tracked(lines, 'lines', count_lines(args.source))


def write(args: argparse.Namespace, entries: Iterator[Entry], out: Path) -> None:
    """Write entries in the chosen format."""
    if args.target_format == 'mdetr':
        write_mdetr(entries, out, args.dataset_name)
    elif args.target_format == 'transvg':
        write_rows(entries, out, args.rows, args.box_format)
    else:
        write_lines(to_odvg(entries) if args.target_format == 'odvg' else entries, out)


def convert(args: argparse.Namespace) -> None:
    """Convert all parts of the source."""
    args.source_format = args.source_format or source_format(args.source)
    if args.source_format != 'dataset' and not Path(args.source).is_file():
        raise FileNotFoundError(f'{args.source} does not exist; correct the name of the source')
    args.target_format = args.target_format or target_format(args.out)
    parts = dataset_parts(args) if args.source_format == 'dataset' else {'': None}
    for split, part in parts.items():
        out = Path(args.out.replace('{split}', split))
        if out.exists() and args.resume:
            print(f'{out}: is complete, left as it is')
            continue
        if out.exists() and not args.overwrite:
            raise ValueError(f'{out} exists; give --overwrite or --resume, or another name')
        counts = Counter()
        entries = sized(grouped(read(args, part, counts)), args.images)
        write(args, counted(entries, counts), out)
        print(f'{out}: ' + ', '.join(f'{count} {what}' for what, count in counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    formats = ['jsonl', 'odvg', 'mdetr', 'transvg']
    add = parser.add_argument
    add('source', help='config, name of a data set class, or annotation file')
    add('out', help='file to write; {split} in it stands for the name of the split')
    add('--from', dest='source_format', choices=['dataset', *formats], help='default: from name')
    add('--to', dest='target_format', choices=formats, help='default: from the name of the output')
    add('--overwrite', action='store_true', help='replace existing outputs')
    add('--resume', action='store_true', help='keep existing outputs, make the missing ones')
    add('--images', metavar='DIR', help='folder of the pictures, for sizes that are not known')
    of_source = parser.add_argument_group('source')
    add = of_source.add_argument
    add('--split', nargs='+', help='of a config: the splits or names of its data sets')
    options = dict(nargs='+', action=DictAction, metavar='KEY=VALUE')
    add('--cfg-options', **options, help='of config or class')
    add(
        '--as-configured',
        action='store_true',
        help='lower case, truncated boxes and the like as the config says, not as in the files',
    )
    add('--skip-invalid', action='store_true', help='of a data set: leave out bad records, counted')
    add(
        '--query',
        choices=['phrase', 'caption'],
        help='of odvg, mdetr: what a query is; default: the marked phrase, and in MDETR files of '
        'referring expressions the caption',
    )
    add = parser.add_argument_group('TransVG and MDETR').add_argument
    add('--box-format', choices=['xywh', 'xyxy'], help='of rows; default: xywh for COCO pictures')
    add('--rows', type=int, choices=[3, 5], default=5, help='parts of rows; 3: Flickr30k Entities')
    add('--dataset-name', default='grounding', help='in MDETR files, e.g. refcoco for RefExpMetric')
    args = parser.parse_args()
    with concise_errors(), stops_cleanly():
        convert(args)


if __name__ == '__main__':
    main()
