"""Draw results: accuracy against the IoU threshold, bars of a table's rows, metrics per epoch.

    iou     dumps of tools/test.py --out, or results.json of train_table.py
    rows    results.json
    epochs  work folders of tools/train.py (or their scalars.json), or results.json; several metrics
            in one figure if --key names them

Files of one label are the seeds of one line, of which mean and spread are drawn:

    python tools/analysis_tools/plot_results.py iou a0.json a1.json b0.json --labels a a b --out iou.png

Both answers of VCMA per round of EM, as --rounds says after 360 iterations of warm-up:

    python tools/analysis_tools/plot_results.py epochs work_dirs/vcma_shapes/results.json --only full \\
        --key val/p/declarative/m_vIoU val/q/declarative/m_vIoU --rounds 360 120 --out rounds.png
"""

import argparse
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from eval_predictions import build_metric, read_dump
from matplotlib.figure import Figure
from results_figure import Series, draw_curves, draw_rows

from mmvg.apis import concise_errors

BOXES = dict(fused='bboxes', coarse='coarse_bboxes', fine='fine_bboxes')
Curve = dict[float, float]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    iou = commands.add_parser('iou', help='accuracy against the IoU threshold')
    rows = commands.add_parser('rows', help='bars of the rows of a table')
    epochs = commands.add_parser('epochs', help='a metric, or a loss, as training goes on')
    for command in (iou, rows, epochs):
        command.add_argument('files', nargs='+', type=Path)
        if command is not rows:
            command.add_argument('--labels', nargs='+', help='one per file (default: its name)')
        command.add_argument('--only', nargs='+', help='draw these labels, in this order')
        command.add_argument('--out', type=Path, required=True, help='.png, .svg or .pdf')
    iou.add_argument(
        '--range', nargs=2, type=float, default=(0.5, 0.8), help='thresholds (default: 0.5 0.8)'
    )
    iou.add_argument(
        '--boxes', choices=BOXES, default='fused', help="of ReIR's dumps (default: fused)"
    )
    iou.add_argument(
        '--key', default='test/acc', help='of results.json, without @T (default: %(default)s)'
    )
    rows.add_argument(
        '--keys',
        nargs='+',
        default=['test/acc@0.5', 'test/miou'],
        help='a panel each (default: test/acc@0.5 test/miou)',
    )
    epochs.add_argument(
        '--key', nargs='+', default=['val/acc@0.5'], help='a line each (default: val/acc@0.5)'
    )
    epochs.add_argument(
        '--rounds',
        nargs=2,
        type=int,
        metavar=('START', 'LENGTH'),
        help='count rounds of LENGTH iterations from iteration START on, and leave out what was before',
    )
    return parser.parse_args()


def read_json(path: Path) -> dict:
    """A JSON object; raise FileNotFoundError or ValueError if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is not JSON ({error}); write it again') from error
    return content if isinstance(content, dict) else {}


def read_table(path: Path) -> dict[str, list[dict]]:
    """Title of each row and its runs, with ``test`` and ``val``; ValueError if it is something else."""
    table = read_json(path)
    if not table or not all(
        isinstance(runs, list) and runs and all('test' in run and 'val' in run for run in runs)
        for runs in table.values()
    ):
        raise ValueError(f'{path} is not the results.json of train_table.py')
    return table


def need(key: str, found: Collection[str], path: Path) -> None:
    """Raise ValueError if a file lacks what is to be drawn."""
    if key not in found:
        raise ValueError(f'{path} has no {key}; it has {", ".join(sorted(found))}')


def iou_curves(path: Path, label: str, args: argparse.Namespace) -> Iterator[tuple[str, Curve]]:
    """Label of a line, and accuracy in percent at every threshold, of each run in a file."""
    low, high = args.range
    if not 0 <= low < high <= 1:
        raise ValueError(f'--range must be two ascending numbers from 0 to 1, not {low} {high}')
    if 'samples' not in read_json(path):
        for title, runs in read_table(path).items():
            for run in runs:
                found = {k.removeprefix(f'{args.key}@'): v for k, v in run['test'].items()}
                curve = {float(t): found[t] for t in found if re.fullmatch(r'[\d.]+', t)}
                curve = {t: accuracy for t, accuracy in curve.items() if low <= t <= high}
                if not curve:
                    need(f'{args.key}@T with T from {low} to {high}', run['test'], path)
                yield title, curve
        return
    samples, meta = read_dump(path)
    need(BOXES[args.boxes], samples[0], path)
    metric = build_metric(meta)
    thresholds = np.linspace(low, high, 61).round(6)
    names = list(dict.fromkeys(sample['dataset_name'] for sample in samples))
    for name in names:
        of_name = [sample for sample in samples if sample['dataset_name'] == name]
        ious = metric.compare(of_name, BOXES[args.boxes])[0].numpy()
        right = ious > thresholds[:, None] if metric.strict else ious >= thresholds[:, None]
        curve = dict(zip(thresholds.tolist(), (100 * right.mean(1)).tolist()))
        yield label if len(names) == 1 else f'{label}, {name}', curve


def read_log(path: Path) -> list[dict]:
    """Lines of the scalars.json of a run, oldest first; of a folder, those of all its starts."""
    logs = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not logs:
        raise FileNotFoundError(
            f'{path} has no */vis_data/scalars.json; give the work folder of tools/train.py'
        )
    try:
        return [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f'{path}: a line of scalars.json is not JSON ({error})') from error


def epoch_curves(path: Path, label: str, key: str) -> Iterator[tuple[str, Curve]]:
    """Label of a line, and the metric at every step, of each run in a file or folder."""
    if path.is_file() and path.name != 'scalars.json':
        for title, runs in read_table(path).items():
            for run in runs:
                need(key, {key for metrics in run['val'].values() for key in metrics}, path)
                yield title, {float(step): m[key] for step, m in run['val'].items()}
        return
    lines = read_log(path)
    need(key, {key for line in lines for key in line}, path)
    # A resumed run repeats steps: the later one counts.
    yield label, {line['step']: line[key] for line in lines if key in line}


def step_name(path: Path, key: str) -> str:
    """What the steps of a metric count: training losses, and all of a recipe by iterations, those."""
    if path.is_file() and path.name != 'scalars.json':
        return next(iter(read_table(path).values()))[0].get('unit', 'epoch')
    lines = read_log(path)
    in_training = any('iter' in line for line in lines if key in line)
    return 'iteration' if in_training or not any('epoch' in line for line in lines) else 'epoch'


def in_rounds(curve: Curve, rounds: list[int] | None) -> Curve:
    """Places as numbers of rounds, see ``--rounds``."""
    if rounds is None:
        return curve
    start, length = rounds
    if length < 1:
        raise ValueError(f'--rounds {start} {length}: a round has at least 1 iteration')
    curve = {(step - start) / length: value for step, value in curve.items() if step >= start}
    if not curve:
        raise ValueError(f'--rounds {start} {length}: there is nothing from iteration {start} on')
    return curve


def split_keys(keys: list[str]) -> tuple[str, list[str]]:
    """What all metrics have in common, and what tells each from the others.

    >>> split_keys(['val/p/m_vIoU', 'val/q/m_vIoU'])
    ('val/m_vIoU', ['p', 'q'])
    """
    parts = [key.split('/') for key in keys]
    shared = [x for x in parts[0] if all(x in other for other in parts)]
    own = ['/'.join(x for x in part if x not in shared) for part in parts]
    return '/'.join(shared) or ', '.join(keys), own


def to_series(curves: list[tuple[str, Curve]]) -> list[Series]:
    """Join the curves of one label at the places that all of them have."""
    groups: dict[str, list[Curve]] = {}
    for label, curve in curves:
        groups.setdefault(label, []).append(curve)
    series = []
    for label, runs in groups.items():
        places = sorted(set(runs[0]).intersection(*runs[1:]))
        if not places:
            raise ValueError(
                f'the runs of {label!r} have no place in common; give them other --labels'
            )
        values = np.array([[run[x] for x in places] for run in runs])
        series.append(Series(label, np.array(places), values))
    return series


def choose(drawn: dict[str, object], only: list[str] | None) -> dict:
    """Those that the user wants, in the user's order."""
    missing = set(only or []) - set(drawn)
    if missing:
        raise ValueError(f'there is no {", ".join(sorted(missing))}; there are {", ".join(drawn)}')
    return {label: drawn[label] for label in only or drawn}


def describe(key: str) -> str:
    """Axis label of a metric: ``test/acc@0.5`` -> ``accuracy at IoU 0.5 (%), test``."""
    prefix, _, name = key.rpartition('/')
    kind, _, value = name.partition('@')
    known = {
        'acc': f'accuracy at IoU {value} (%)',
        'miou': 'mean IoU (%)',
        'm_tIoU': 'mean IoU in time (%)',
        'm_vIoU': 'mean IoU in time and space (%)',
        'vIoU': f'IoU in time and space above {value} (%)',
        'point_it': 'centre in the true box (%)',
        'recall': f'recall of the best {value} (%)',
        'upper_bound': f'any proposal, IoU {value} (%)',
        'upper_bound_refined': f'any moved proposal, IoU {value} (%)',
    }
    return ', '.join(filter(None, [known.get(kind, name), prefix.replace('/', ', ')]))


def draw_table(args: argparse.Namespace) -> Figure:
    """Bars of the rows of all tables."""
    table = {title: runs for path in args.files for title, runs in read_table(path).items()}
    table = choose(table, args.only)
    panels = {}
    for key in args.keys:
        for runs in table.values():
            for run in runs:
                need(key, run['test'], args.files[0])
        panels[describe(key)] = [[run['test'][key] for run in runs] for runs in table.values()]
    return draw_rows(list(table), panels)


def draw_lines(args: argparse.Namespace) -> Figure:
    """Lines of all files, over thresholds or over training."""
    labels = args.labels or [path.stem or path.name for path in args.files]
    if len(labels) != len(args.files):
        raise ValueError(f'{len(args.files)} files but {len(labels)} --labels; give one per file')
    if args.command == 'iou':
        curves = [
            c for path, label in zip(args.files, labels) for c in iou_curves(path, label, args)
        ]
        series = choose({s.label: s for s in to_series(curves)}, args.only)
        return draw_curves(list(series.values()), 'IoU threshold', 'accuracy (%)')
    shared, own = split_keys(args.key)
    series = []
    for key, name in zip(args.key, own, strict=True):
        curves = [
            (title, in_rounds(curve, args.rounds))
            for path, label in zip(args.files, labels)
            for title, curve in epoch_curves(path, label, key)
        ]
        chosen = choose({s.label: s for s in to_series(curves)}, args.only)
        for line in chosen.values():
            line.label += f', {name}' if name else ''
        series += chosen.values()
    steps = 'round' if args.rounds else step_name(args.files[0], args.key[0])
    return draw_curves(series, steps, describe(shared))


def main() -> None:
    args = parse_args()
    with concise_errors():
        if args.out.suffix not in ('.png', '.svg', '.pdf'):
            raise ValueError(f'--out {args.out}: give a name that ends in .png, .svg or .pdf')
        figure = draw_table(args) if args.command == 'rows' else draw_lines(args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=150)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
