"""Where and how a grounder fails: tables and the worst cases as pictures on one HTML page.

Reads a dump of tools/test.py --out. Boxes are compared in the original image. The page is a single
file that needs no network and no scripts; errors.json beside it has the figures.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from error_page import render_page
from eval_predictions import read_dump
from torchvision.ops import box_iou

from mmvg.apis import concise_errors
from mmvg.datasets.transforms.location_words import location_pattern

PLACES = ('left', 'right', 'top', 'bottom', 'middle')
RIGHT = 'right'
KINDS = {  # a wrong answer is of the first kind that applies
    'another object': 'fits the true box of another query of the same image',
    'wrong extent': 'has its centre in the true box, but is too large, too small or shifted',
    'partial overlap': 'touches the true box with its centre outside',
    'elsewhere': 'does not touch the true box',
}
_WORDS = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 7), (8, 10), (11, 15), (16, math.inf))
_AREAS = (0, 0.01, 0.04, 0.1, 0.25, 0.5, math.inf)  # share of the image


@dataclass
class Case:
    """One query with its answer; boxes are xyxy in px of the original image."""

    dataset: str
    img_path: str | None
    size: tuple[int, int]  # width, height
    query: str
    type: str | None
    box: list[float]
    truths: list[list[float]]  # any of them is right
    iou: float = 0.0  # with the best of them
    kind: str = RIGHT
    fits: str | None = None  # the other query whose object was found
    comparable: bool = False  # another query of the image asks for another object

    @property
    def area(self) -> float:
        """Share of the image that the first true box covers."""
        x1, y1, x2, y2 = self.truths[0]
        return (x2 - x1) * (y2 - y1) / (self.size[0] * self.size[1])

    @property
    def words(self) -> int:
        return len(self.query.split())

    @property
    def centre_inside(self) -> bool:
        x, y = centre(self.box)
        return any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in self.truths)

    @property
    def distance(self) -> float:
        """Between the centres of prediction and nearest truth, in units of the diagonal."""
        nearest = min(math.dist(centre(self.box), centre(truth)) for truth in self.truths)
        return nearest / math.hypot(*self.size)


def centre(box: list[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', help='predictions.json of tools/test.py --out')
    parser.add_argument('--out-dir', type=Path, required=True, help='for index.html, errors.json')
    parser.add_argument(
        '--num', type=int, default=12, help='pictures per kind of error (default: %(default)s)'
    )
    parser.add_argument(
        '--iou-thr', type=float, default=0.5, help='right from here on (default: %(default)s)'
    )
    parser.add_argument(
        '--img-dir', type=Path, help='where to look for pictures whose recorded path is not there'
    )
    return parser.parse_args()


def read_cases(samples: Iterable[dict], iou_thr: float) -> tuple[list[Case], int]:
    """Every query of a dump, rated; and the number of predictions that are not finite."""
    images = defaultdict(list)
    num_broken = 0
    for number, entry in enumerate(samples):
        height, width = entry['ori_shape']
        name = entry.get('dataset_name') or ''
        path = entry.get('img_path')
        truths = entry.get('gt_bboxes_any') or [[box] for box in entry['gt_bboxes']]
        types = entry.get('query_types') or [None] * len(truths)
        for query, kind, box, any_of in zip(
            entry['queries'], types, entry['bboxes'], truths, strict=True
        ):
            if not all(map(math.isfinite, box)):
                num_broken += 1
                box = [0.0] * 4
            case = Case(name, path, (width, height), query, kind, box, any_of)
            images[name, path or number].append(case)
    for cases in images.values():
        rate_image(cases, iou_thr)
    return [case for cases in images.values() for case in cases], num_broken


def rate_image(cases: list[Case], iou_thr: float) -> None:
    """Set IoU and kind of all queries of one image."""
    owners = np.repeat(np.arange(len(cases)), [len(case.truths) for case in cases])
    truths = torch.tensor([box for case in cases for box in case.truths], dtype=torch.float64)
    predicted = torch.tensor([case.box for case in cases], dtype=torch.float64)
    ious = box_iou(predicted, truths).nan_to_num().numpy()
    same = box_iou(truths, truths).nan_to_num().numpy() >= iou_thr
    for i, case in enumerate(cases):
        own = owners == i
        case.iou = float(ious[i, own].max())
        others = ~own & ~same[own].any(0)
        case.comparable = bool(others.any())
        if case.iou >= iou_thr:
            continue
        best = int(np.where(others, ious[i], -1).argmax())
        if others[best] and ious[i, best] >= iou_thr:
            case.kind, case.fits = 'another object', cases[owners[best]].query
        elif case.centre_inside:
            case.kind = 'wrong extent'
        else:
            case.kind = 'partial overlap' if case.iou > 0 else 'elsewhere'


def figures(title: str, cases: list[Case]) -> dict:
    """Accuracy with its 95 % interval (Wilson), and mean IoU, of a group of queries; percent."""
    n = len(cases)
    p = sum(case.kind == RIGHT for case in cases) / n
    z = 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return dict(
        title=title,
        queries=n,
        accuracy=100 * p,
        low=100 * (middle - half),
        high=100 * (middle + half),
        mean_iou=100 * sum(case.iou for case in cases) / n,
    )


def grouped(cases: list[Case], groups: dict[str, Callable[[Case], bool]]) -> list[dict]:
    """Figures of every group that has a query."""
    members = {title: [case for case in cases if test(case)] for title, test in groups.items()}
    return [figures(title, found) for title, found in members.items() if found]


def group_tables(cases: list[Case]) -> dict[str, list[dict]]:
    """Title of each table and its rows."""
    tables = {}
    names = sorted({case.dataset for case in cases})
    tables['Data set'] = grouped(
        cases, {name or 'unnamed': lambda c, name=name: c.dataset == name for name in names}
    )
    types = sorted({case.type or '' for case in cases})
    if any(types):
        tables['Query type'] = grouped(
            cases,
            {kind or 'untyped': lambda c, kind=kind: (c.type or '') == kind for kind in types},
        )
    tables['Words in the query'] = grouped(
        cases,
        {
            f'{a}' if a == b else f'{a} to {b}' if b < math.inf else f'{a} or more': (
                lambda c, a=a, b=b: a <= c.words <= b
            )
            for a, b in _WORDS
        },
    )
    tables['True box, share of the image'] = grouped(
        cases,
        {
            f'{100 * a:g} to {100 * b:g} %' if b < math.inf else f'{100 * a:g} % or more': (
                lambda c, a=a, b=b: a <= c.area < b
            )
            for a, b in zip(_AREAS, _AREAS[1:])
        },
    )
    any_place = location_pattern(PLACES, 'word')
    places = {
        'names a place': lambda c: any_place.search(c.query),
        'names no place': lambda c: not any_place.search(c.query),
    }
    for word in PLACES:
        pattern = location_pattern((word,), 'word')
        places[f'“{word}”'] = lambda c, pattern=pattern: pattern.search(c.query)
    tables['Words of place'] = grouped(cases, places)
    return tables


def analyse(cases: list[Case], iou_thr: float) -> dict:
    """All figures, JSON-serialisable."""
    histogram, _ = np.histogram([case.iou for case in cases], bins=20, range=(0, 1))
    kinds = {}
    for kind, meaning in KINDS.items():
        count = sum(case.kind == kind for case in cases)
        kinds[kind] = dict(queries=count, percent=100 * count / len(cases), meaning=meaning)
    return dict(
        iou_thr=iou_thr,
        images=len({case.img_path for case in cases}),
        comparable=sum(case.comparable for case in cases),
        all=figures('all', cases),
        kinds=kinds,
        iou_histogram=histogram.tolist(),
        groups=group_tables(cases),
    )


def worst_cases(cases: list[Case], num: int) -> dict[str, list[Case]]:
    """Of every kind the cases with the least overlap, farthest first; each true box once."""
    worst = {}
    for kind in KINDS:
        wrong = [case for case in cases if case.kind == kind]
        wrong.sort(key=lambda case: (case.iou, -case.distance))
        objects = {}
        for case in wrong:
            objects.setdefault((case.dataset, case.img_path, str(case.truths)), case)
        worst[kind] = list(objects.values())[:num]
    return worst


def main() -> None:
    args = parse_args()
    with concise_errors():
        samples, meta = read_dump(args.predictions)
        if not 0 < args.iou_thr <= 1:
            raise ValueError(f'--iou-thr must be above 0 and at most 1, not {args.iou_thr}')
        if args.out_dir.exists() and not args.out_dir.is_dir():
            raise ValueError(f'--out-dir {args.out_dir} is a file; give the name of a folder')
        try:
            cases, num_broken = read_cases(samples, args.iou_thr)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{args.predictions}: a sample is not as tools/test.py --out writes it ({error!r}); '
                'write the file again'
            ) from error
        if not cases:
            raise ValueError(f'{args.predictions} holds no query; test on a data set that has some')
    analysis = analyse(cases, args.iou_thr)
    analysis.update(source=args.predictions, protocol=meta['protocol'], not_finite=num_broken)
    page, missing = render_page(analysis, worst_cases(cases, args.num), args.img_dir)
    analysis['missing_pictures'] = missing
    args.out_dir.mkdir(parents=True, exist_ok=True)
    (args.out_dir / 'index.html').write_text(page, encoding='utf-8')
    (args.out_dir / 'errors.json').write_text(
        json.dumps(analysis, indent=1, ensure_ascii=False), encoding='utf-8'
    )
    print(
        f'{len(cases):,} queries, {analysis["all"]["accuracy"]:.2f} % right (IoU >= {args.iou_thr:g})'
    )
    for kind, row in analysis['kinds'].items():
        print(f'{row["percent"]:6.2f} %  {kind}: {row["meaning"]}')
    if missing:
        print(f'pictures not found: {missing}; --img-dir says where to look for them')
    print(f'open {args.out_dir / "index.html"}')


if __name__ == '__main__':
    main()
