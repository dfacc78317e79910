"""What is in the data sets of a config: queries, boxes, and what the config would cut off.

Reads annotations only; of a picture at most the header, where the annotations lack its size. One
column per data set; a query of a picture counts as often as it is annotated. Of videos, boxes are
not looked at.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from statistics_collector import PLACES, Collector
from statistics_figure import draw_histograms

from mmvg.apis import SPLITS, concise_errors, load_config, split_datasets
from mmvg.text.tokenizer import build_tokenizer


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument('--split', nargs='+', choices=SPLITS, default=list(SPLITS))
    parser.add_argument('--json', type=Path, help='also write all figures to this file')
    parser.add_argument('--picture', type=Path, help='also draw histograms, e.g. statistics.png')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def find_tokenisation(pipeline: object) -> dict | None:
    """The first TokenizeQueries of a pipeline, also within transforms that hold others."""
    if isinstance(pipeline, dict):
        if pipeline.get('type') == 'TokenizeQueries':
            return dict(dict(max_query_len=20), **pipeline)  # its default
        pipeline = list(pipeline.values())
    found = map(find_tokenisation, pipeline if isinstance(pipeline, (list, tuple)) else ())
    return next((transform for transform in found if transform is not None), None)


def records(cfg: Config) -> Iterator[dict]:
    """The annotation records of one data set."""
    dataset = DATASETS.build({**cfg, 'pipeline': []})
    for i in range(len(dataset)):
        # Not the data set's own: that of generated scenes draws the picture.
        yield BaseDataset.get_data_info(dataset, i)


def rows(figures: dict) -> Iterator[tuple[str, str]]:
    """Title and text of every line of a data set's column."""

    def four(values: dict, digits: int) -> str:
        numbers = [values[name] for name in ('median', 'q95', 'max')]
        return ' / '.join(
            [f'{values["mean"]:.{max(digits, 1)}f}', *(f'{v:.{digits}f}' for v in numbers)]
        )

    unit = 'video' if 'videos' in figures else 'image'
    for name in ('samples', f'{unit}s', 'queries', 'distinct_queries'):
        yield name.replace('_', ' '), f'{figures[name]:,}'
    yield f'queries per {unit} *', four(figures[f'queries_per_{unit}'], 0)
    yield 'words per query *', four(figures['words'], 0)
    if 'word_pieces' in figures:
        yield 'word pieces per query *', four(figures['word_pieces'], 0)
        yield 'kept word pieces (max_query_len - 2)', str(figures['max_query_len'] - 2)
        yield 'queries cut, %', f'{figures["cut_percent"]:.2f}'
    yield 'queries that name a place **, %', f'{figures["place_percent"]:.1f}'
    yield 'the same within words ("bright"), %', f'{figures["place_substring_percent"]:.1f}'
    if set(figures['types_percent']) != {'untyped'}:
        for kind, share in figures['types_percent'].items():
            yield f'queries of type {kind}, %', f'{share:.1f}'
    if unit == 'image':
        yield 'repeats of the same query and box', f'{figures["repeated_annotations"]:,}'
        yield 'queries with several boxes in an image', f'{figures["ambiguous_queries"]:,}'
    if 'boxes' in figures:
        yield from box_rows(figures['boxes'], four)


def box_rows(boxes: dict, four: Callable[[dict, int], str]) -> Iterator[tuple[str, str]]:
    """The lines about boxes."""
    sides = [f'{boxes[f"{name}_percent"]:.0f}' for name in ('small', 'medium', 'large')]
    yield 'boxes: small / medium / large (COCO), %', ' / '.join(sides)
    yield 'width : height *', four(boxes['aspect'], 2)
    if boxes['image_size_unknown']:
        yield 'boxes in images of unknown size', f'{boxes["image_size_unknown"]:,}'
    if 'centres_percent' not in boxes:
        return
    yield 'area, % of the image *', four(boxes['area_percent'], 1)
    yield 'reaching beyond the image by over 1 px', f'{boxes["beyond_image"]:,}'
    for name, row in zip(('top', 'middle', 'bottom'), boxes['centres_percent'], strict=True):
        yield (
            f'centres left / mid / right, {name} third, %',
            ' / '.join(f'{share:.0f}' for share in row),
        )


def table(columns: dict[str, dict]) -> str:
    """The figures side by side, one column per data set."""
    texts = {title: dict(rows(figures)) for title, figures in columns.items()}
    names = dict.fromkeys(name for column in texts.values() for name in column)
    lines = [('', *texts), *((name, *(c.get(name, '-') for c in texts.values())) for name in names)]
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    text = [
        '  '.join([line[0].ljust(first), *map(str.rjust, line[1:], widths)]).rstrip()
        for line in lines
    ]
    notes = '* mean / median / 95 % quantile / maximum', f'** any of {", ".join(PLACES)}'
    return '\n'.join([*text, *notes])


def collect(cfg: Config, splits: Sequence[str]) -> dict[str, tuple[Collector, dict | None]]:
    """Counts and tokenisation of every data set of the config, each once."""
    collected, seen = {}, []
    for split, part in split_datasets(cfg, splits):
        content = {k: v for k, v in part.items() if k not in ('pipeline', 'test_mode')}
        if content in seen:  # e.g. RefCOCO's val in the val and the test loader
            continue
        seen.append(content)
        name = part.get('name') or split
        same = sum(title.split(' #')[0] == name for title in collected)
        title = f'{name} #{same + 1}' if same else name
        print(f'reading {title} ...', file=sys.stderr)
        collector = Collector()
        for record in records(part):
            collector.add(record)
        collected[title] = collector, usable(find_tokenisation(part.get('pipeline')))
    return collected


def usable(tokenise: dict | None) -> dict | None:
    """``tokenise`` if its tokeniser is to be had; the other figures do not need it."""
    try:
        if tokenise:
            build_tokenizer(tokenise['tokenizer'])
    except (FileNotFoundError, ValueError) as error:
        print(f'no word pieces are counted: {error}', file=sys.stderr)
        return None
    return tokenise


def main() -> None:
    args = parse_args()
    with concise_errors():
        cfg = load_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        collected = collect(cfg, args.split)
    figures = {title: c.summary(tokenise) for title, (c, tokenise) in collected.items()}
    print(table(figures))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False), encoding='utf-8')
    if args.picture:
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        figure = draw_histograms(
            {
                title: c.text_lengths(tokenise)
                | c.geometry()
                | dict(images=np.array(list(c.queries_of.values())))
                for title, (c, tokenise) in collected.items()
            },
            {t['max_query_len'] - 2 for _, t in collected.values() if t},
        )
        figure.savefig(args.picture, dpi=110)


if __name__ == '__main__':
    main()
