"""What is in the data sets of a config: queries, boxes, and what the config would cut off.

Reads annotations only; of a picture at most the header, where the annotations lack its size. One
column per data set; a query of a picture counts as often as it is annotated.
"""

import argparse
import functools
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from PIL import Image
from statistics_figure import GRID, draw_histograms, heat_map

from mmvg.apis import concise_errors, load_config
from mmvg.datasets.transforms.location_words import location_pattern
from mmvg.text.tokenizer import build_tokenizer

PLACES = ('left', 'right', 'top', 'bottom', 'middle')  # of TransVG's augmentation, spec 1.3
_COCO_AREAS = (32**2, 96**2)  # px: small below the first, large from the second on


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument(
        '--split', nargs='+', choices=['train', 'val', 'test'], default=['train', 'val', 'test']
    )
    parser.add_argument('--json', type=Path, help='also write all figures to this file')
    parser.add_argument('--picture', type=Path, help='also draw histograms, e.g. statistics.png')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def parts(dataset: Config) -> Iterator[Config]:
    """The single data sets that a dataset config with wrappers is made of."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else None)
    for part in inner if inner is not None else ():
        yield from parts(part)
    if inner is None:
        yield dataset


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


@functools.cache
def header_size(path: str) -> tuple[int, int] | None:
    """Width and height that the file says it has; None if there is no readable file."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


class Collector:
    """Counts over the records of one data set; ``summary`` turns them into figures."""

    def __init__(self) -> None:
        self.num_samples = 0
        self.queries_of = Counter()  # picture -> queries
        self.texts = Counter()  # query -> how often
        self.types = Counter()
        self.annotations = Counter()  # hash of (picture, query, box) -> how often
        self.boxes_of = defaultdict(set)  # hash of (picture, query) -> hashes of its boxes
        self.boxes, self.sizes = [], []  # px of the original picture; (width, height), NaN: unknown

    def add(self, record: dict) -> None:
        """Count the K queries of a record."""
        picture, queries = record.get('img_path'), record['queries']
        self.num_samples += 1
        self.queries_of[picture] += len(queries)
        self.texts.update(queries)
        types = record.get('query_types') or [None] * len(queries)
        self.types.update(kind or 'untyped' for kind in types)
        bboxes = record.get('bboxes')
        if bboxes is None:  # for prediction only
            return
        size = record.get('width'), record.get('height')
        if not all(size):
            size = header_size(picture) or (np.nan, np.nan)
        for query, box in zip(queries, bboxes, strict=True):
            self.boxes.append(tuple(box))
            self.sizes.append(size)
            self.annotations[hash((picture, query, tuple(box)))] += 1
            self.boxes_of[hash((picture, query))].add(hash(tuple(box)))

    def text_lengths(self, tokenise: dict | None) -> dict[str, np.ndarray]:
        """Words, and word pieces where there is a tokeniser, of every query."""
        counts = np.fromiter(self.texts.values(), dtype=np.int64)
        lengths = dict(words=[len(text.split()) for text in self.texts])
        if tokenise:
            tokenizer = build_tokenizer(tokenise['tokenizer'])
            lengths['pieces'] = [tokenizer.num_pieces(text) for text in self.texts]
        return {name: np.repeat(values, counts) for name, values in lengths.items()}

    def geometry(self) -> dict[str, np.ndarray]:
        """Of every box area (px), aspect; and, where the size is known, share, centre, overhang."""
        boxes = np.array(self.boxes, dtype=np.float64).reshape(-1, 4)
        sizes = np.array(self.sizes, dtype=np.float64).reshape(-1, 2)
        spans = boxes[:, 2:] - boxes[:, :2]
        known = ~np.isnan(sizes).any(1)
        relative = boxes[known] / np.tile(sizes[known], 2)
        beyond = (boxes[known, :2] < -1).any(1) | (boxes[known, 2:] > sizes[known] + 1).any(1)
        return dict(
            area=spans.prod(1),
            aspect=spans[:, 0] / spans[:, 1],
            share=(relative[:, 2:] - relative[:, :2]).prod(1),
            centre=(relative[:, :2] + relative[:, 2:]) / 2,
            beyond=beyond,
        )

    def summary(self, tokenise: dict | None) -> dict:
        """All figures, JSON-serialisable; shares are in percent of the queries or boxes."""
        num_queries = self.texts.total()
        result = dict(
            samples=self.num_samples,
            images=len(self.queries_of),
            queries=num_queries,
            distinct_queries=len(self.texts),
            queries_per_image=spread(list(self.queries_of.values())),
        )
        lengths = self.text_lengths(tokenise)
        result['words'] = spread(lengths['words'])
        result['longest_query'] = max(self.texts, key=lambda text: len(text.split()))
        if 'pieces' in lengths:
            limit = tokenise['max_query_len']
            result['word_pieces'] = spread(lengths['pieces'])
            result['max_query_len'] = limit
            # [CLS] and [SEP] are within the limit
            result['cut_percent'] = percent(lengths['pieces'] > limit - 2)
        for key, match in (('place_percent', 'word'), ('place_substring_percent', 'substring')):
            pattern = location_pattern(PLACES, match)
            named = sum(n for text, n in self.texts.items() if pattern.search(text))
            result[key] = 100 * named / num_queries
        result['types_percent'] = {
            kind: 100 * n / num_queries for kind, n in sorted(self.types.items())
        }
        result['repeated_annotations'] = self.annotations.total() - len(self.annotations)
        result['ambiguous_queries'] = sum(len(boxes) > 1 for boxes in self.boxes_of.values())
        if self.boxes:
            result['boxes'] = self._box_summary()
        return result

    def _box_summary(self) -> dict:
        boxes = self.geometry()
        sides = np.digitize(boxes['area'], _COCO_AREAS)
        result = {
            f'{name}_percent': percent(sides == i)
            for i, name in enumerate(('small', 'medium', 'large'))
        }
        result['aspect'] = spread(boxes['aspect'])
        result['image_size_unknown'] = len(boxes['area']) - len(boxes['share'])
        if len(boxes['share']):
            result['area_percent'] = spread(100 * boxes['share'])
            result['beyond_image'] = int(boxes['beyond'].sum())
            heat = heat_map(boxes['centre'])
            thirds = heat.reshape(3, GRID // 3, 3, GRID // 3).sum((1, 3))
            result['centres_percent'] = (100 * thirds / heat.sum()).round(2).tolist()
        return result


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and quantiles."""
    quantiles = np.quantile(values, (0, 0.05, 0.5, 0.95, 1))
    names = ('min', 'q05', 'median', 'q95', 'max')
    return dict(mean=float(np.mean(values)), **dict(zip(names, quantiles.tolist(), strict=True)))


def percent(mask: np.ndarray) -> float:
    return 100 * float(mask.mean())


def rows(figures: dict) -> Iterator[tuple[str, str]]:
    """Title and text of every line of a data set's column."""

    def four(values: dict, digits: int) -> str:
        numbers = [values[name] for name in ('median', 'q95', 'max')]
        return ' / '.join(
            [f'{values["mean"]:.{max(digits, 1)}f}', *(f'{v:.{digits}f}' for v in numbers)]
        )

    for name in ('samples', 'images', 'queries', 'distinct_queries'):
        yield name.replace('_', ' '), f'{figures[name]:,}'
    yield 'queries per image *', four(figures['queries_per_image'], 0)
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
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for part in parts(loader.dataset) if loader else ():
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
    if not collected:
        raise ValueError(f'{cfg.filename} has no data set for {", ".join(splits)}')
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
