"""What dataset_statistics.py counts of the records of a data set."""

import functools
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image
from statistics_figure import GRID, heat_map

from mmvg.datasets.transforms.location_words import location_pattern
from mmvg.text.tokenizer import build_tokenizer

PLACES = ('left', 'right', 'top', 'bottom', 'middle')  # of TransVG's augmentation, spec 1.3
_COCO_AREAS = (32**2, 96**2)  # px: small below the first, large from the second on


class Collector:
    """Counts over the records of one data set; ``summary`` turns them into figures.

    Attributes:
        unit (str): What queries are about: ``'image'`` or ``'video'``. Boxes of videos are not read.
        queries_of (Counter): Picture or video -> number of its queries.
    """

    def __init__(self) -> None:
        self.unit = 'image'
        self.num_samples = 0
        self.queries_of = Counter()
        self.texts = Counter()  # query -> how often
        self.types = Counter()
        self.annotations = Counter()  # hash of (picture, query, box) -> how often
        self.boxes_of = defaultdict(set)  # hash of (picture, query) -> hashes of its boxes
        self.boxes, self.sizes = [], []  # px of the original picture; (width, height), NaN: unknown

    def add(self, record: dict) -> None:
        """Count the K queries of a record."""
        picture, queries = record.get('img_path'), record['queries']
        if 'video_id' in record:
            self.unit, picture = 'video', record['video_id']
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
        result = {
            'samples': self.num_samples,
            f'{self.unit}s': len(self.queries_of),
            'queries': num_queries,
            'distinct_queries': len(self.texts),
            f'queries_per_{self.unit}': spread(list(self.queries_of.values())),
        }
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
        if self.unit == 'image':
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


@functools.cache
def header_size(path: str) -> tuple[int, int] | None:
    """Width and height that the file says it has; None if there is no readable file."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and quantiles."""
    quantiles = np.quantile(values, (0, 0.05, 0.5, 0.95, 1))
    names = ('min', 'q05', 'median', 'q95', 'max')
    return dict(mean=float(np.mean(values)), **dict(zip(names, quantiles.tolist(), strict=True)))


def percent(mask: np.ndarray) -> float:
    return 100 * float(mask.mean())
