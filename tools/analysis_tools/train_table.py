"""Train and test every row of a table with several seeds; print mean and spread of each row.

A table is a config file with

    config    of all rows
    rows      title -> the keys that differ; the first row is what the others are compared with. One
              with ``train_cfg = train_dataloader = optim_wrapper = param_scheduler = None`` is
              tested as it is, without a checkpoint
    columns   title -> key of the test metrics
    common    optional: keys for all rows
    curve     optional: a ``key`` of the validation metrics and the ``target`` that it is to reach
    initial   optional: a ``config`` to be trained first, and the ``parts`` of its model from which
              all rows start; without any, all start from random weights
    prepare   optional: commands that are run once, after that: each the name of a tool of tools/ and
              its arguments, in which ``{checkpoint}`` is that of ``initial`` and ``{out}`` is --out
    weights   optional: 'best' tests what validated best; by default the last weights are tested

Killed at any moment, the same command goes on where it stopped; a finished run is not repeated.
"""

import argparse
import itertools
import json
import os
import queue
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import find_latest_checkpoint

from mmvg.apis import concise_errors, load_config, start_from
from mmvg.datasets.atomic_output import atomic_output

TOOLS = Path(__file__).parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('table', type=Path, help='e.g. tables/epmvg_shapes.py')
    parser.add_argument('--out', type=Path, help='default: work_dirs/<name of the table>')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--rows', nargs='+', help='some of the titles, beside the first (default: all)'
    )
    parser.add_argument(
        '--jobs', type=int, help='runs at a time (default: one per accelerator, or one)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='for all rows'
    )
    return parser.parse_args()


class Workers:
    """Runs commands, each on an accelerator or a share of the CPU cores of its own."""

    def __init__(self, jobs: int | None) -> None:
        devices = torch.cuda.device_count()
        self.jobs = jobs or max(devices, 1)
        self._places = queue.SimpleQueue()
        for i in range(self.jobs):
            place = dict(OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // self.jobs)))
            if devices:
                place['CUDA_VISIBLE_DEVICES'] = str(i % devices)
            self._places.put(place)

    def run(self, log: Path, *command: object) -> None:
        """Run a tool with its output in ``log``; raise RuntimeError if it fails."""
        place = self._places.get()
        try:
            with log.open('a') as file:
                subprocess.run(
                    [sys.executable, *map(str, command)],
                    check=True,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **place},
                )
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f'{command[0]} failed; see the end of {log}') from error
        finally:
            self._places.put(place)


def read_table(path: Path) -> Config:
    """Read a table; raise ValueError if it lacks something."""
    table = load_config(path)
    missing = [key for key in ('config', 'rows', 'columns') if not table.get(key)]
    if missing:
        raise ValueError(f'{path} is not a table: it has no {", ".join(missing)}')
    if table.get('weights', 'last') not in ('last', 'best'):
        raise ValueError(f"{path}: weights must be 'last' or 'best', not {table.weights!r}")
    return table


def choose_rows(table: Config, wanted: list[str] | None) -> list[str]:
    """Titles of the rows to be made; the first row, which the others are compared with, always is."""
    titles = list(table.rows)
    unknown = set(wanted or []) - set(titles)
    if unknown:
        raise ValueError(f'the table has no rows {sorted(unknown)}; it has {titles}')
    return [t for t in titles if not wanted or t in wanted or t == titles[0]]


def write_config(cfg: Config, path: Path) -> Path:
    """Write the config of a run; raise ValueError if there is another one of this name."""
    if path.exists() and path.read_text(encoding='utf-8') != cfg.pretty_text:
        raise ValueError(
            f'{path} is of a run with other settings; delete it or choose another --out'
        )
    with atomic_output(path) as f:
        f.write(cfg.pretty_text)
    return path


def prepare(
    workers: Workers, commands: list[list[str]], checkpoint: Path | None, out: Path
) -> None:
    """Run a table's commands, unless they have been run."""
    filled = [[str(w).format(checkpoint=checkpoint, out=out) for w in words] for words in commands]
    done, text = out / 'prepared.json', json.dumps(filled, indent=1)
    if done.exists() and done.read_text() == text:
        return
    out.mkdir(parents=True, exist_ok=True)
    for tool, *words in filled:
        workers.run(out / 'prepare.log', TOOLS / tool, *words)
    done.write_text(text)


def train(workers: Workers, config: Path, weights: str = 'last') -> Path:
    """Train beside a config, or finish that.

    Returns the last checkpoint, or the ``'best'`` one; 'none' without training.
    """
    if Config.fromfile(config).get('train_cfg', ...) is None:
        return Path('none')
    folder = config.with_suffix('')
    finished = folder / 'finished'
    if not finished.exists():
        log = config.with_suffix('.log')
        workers.run(log, TOOLS / 'train.py', config, '--work-dir', folder, '--resume')
        finished.touch()
    if weights == 'last':
        return Path(find_latest_checkpoint(folder))
    best = sorted(folder.glob('best_*.pth'))
    if len(best) != 1:
        raise RuntimeError(
            f"{folder} has {len(best)} files best_*.pth, but the table's weights='best' needs one; set "
            'default_hooks.checkpoint.save_best to one metric'
        )
    return best[0]


def run_row(workers: Workers, columns: dict[str, str], weights: str, config: Path) -> dict:
    """Train and test; returns the metrics of the test and those of every validation.

    ``unit`` is what the steps of the validations count: epochs or iterations.
    """
    checkpoint = train(workers, config, weights)
    folder, log = config.with_suffix(''), config.with_suffix('.log')
    if not sorted(folder.glob('test/*/*.json')):
        workers.run(log, TOOLS / 'test.py', config, checkpoint, '--work-dir', folder / 'test')
    test = json.loads(sorted(folder.glob('test/*/*.json'))[-1].read_text())
    logged = [
        json.loads(line)
        for path in sorted(folder.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    missing = [key for key in columns.values() if key not in test]
    if missing:
        raise RuntimeError(f'{folder} has no test metrics {missing}; it has {list(test)}')
    unit = 'iteration' if logged and not any('epoch' in x for x in logged) else 'epoch'
    return dict(test=test, val={x['step']: x for x in logged if 'iter' not in x}, unit=unit)


def epochs_until(val: dict[int, dict], key: str, target: float) -> float:
    """Epochs until a metric reaches its target, linear between validations; inf if it never does."""
    earlier, value = 0, 0.0
    for epoch in sorted(val):
        now = val[epoch][key]
        if now >= target:
            return earlier + (target - value) / (now - value) * (epoch - earlier)
        earlier, value = epoch, now
    return float('inf')


def row_configs(table: Config, titles: list[str], seeds: list[int], options: dict | None) -> dict:
    """(title, seed) -> config."""
    configs = {}
    for seed, title in itertools.product(seeds, titles):
        configs[title, seed] = cfg = load_config(table.config)
        for keys in (table.get('common'), table.rows[title], options):
            cfg.merge_from_dict(keys or {})
        cfg.merge_from_dict({'randomness.seed': seed})
    return configs


def spread(values: list[float], sign: str = '') -> str:
    """Mean and standard deviation, of which one value has none."""
    if float('inf') in values:
        return f'never in {values.count(float("inf"))} of {len(values)}'
    text = f'{statistics.mean(values):{sign}.1f}'
    return text if len(values) < 2 else f'{text} ± {statistics.stdev(values):.1f}'


def to_markdown(table: Config, results: dict[str, list[dict]]) -> str:
    """A row per title: seeds, first column minus that of the first row seed by seed, columns."""
    columns = dict(table.columns)
    head = ['', 'seeds', f'{next(iter(columns))}, minus that of the first row', *columns]
    if 'curve' in table:
        head.append(f'epochs until {table.curve.key} is {table.curve.target}')
    lines = ['| ' + ' | '.join(x) + ' |' for x in (head, ['---'] * len(head))]
    first_key, first_row = next(iter(columns.values())), next(iter(results.values()))
    first = {run['seed']: run['test'][first_key] for run in first_row}
    for title, runs in results.items():
        gains = [r['test'][first_key] - first[r['seed']] for r in runs]
        cells = [title, str(len(runs)), spread(gains, '+') if runs is not first_row else '']
        cells += [spread([run['test'][key] for run in runs]) for key in columns.values()]
        if 'curve' in table:
            key, target = table.curve.key, table.curve.target
            cells.append(spread([epochs_until(run['val'], key, target) for run in runs]))
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    out = args.out or Path('work_dirs') / args.table.stem
    with concise_errors():
        table = read_table(args.table)
        titles = choose_rows(table, args.rows)
        configs = row_configs(table, titles, args.seeds, args.cfg_options)
        workers = Workers(args.jobs)
        checkpoint = None
        if 'initial' in table:
            initial = write_config(load_config(table.initial.config), out / 'initial.py')
            checkpoint = train(workers, initial)
            for cfg in configs.values() if table.initial.get('parts') else ():
                start_from(cfg, checkpoint, table.initial.parts)
        if 'prepare' in table:
            prepare(workers, table.prepare, checkpoint, out)
        runs = {
            (title, seed): write_config(cfg, out / title.replace(' ', '_') / f'seed{seed}.py')
            for (title, seed), cfg in configs.items()
        }
    results = {title: [] for title in titles}
    name, key = next(iter(table.columns.items()))
    with ThreadPoolExecutor(workers.jobs) as pool:
        run = partial(run_row, workers, table.columns, table.get('weights', 'last'))
        done = pool.map(run, runs.values())
        for (title, seed), result in zip(runs, done, strict=True):
            results[title].append(dict(seed=seed, **result))
            print(f'{title}, seed {seed}: {name} {result["test"][key]:.1f}', flush=True)
    print(f'\n{to_markdown(table, results)}')
    (out / 'results.json').write_text(json.dumps(results, indent=1))
    print(f'\nall metrics of these runs: {out / "results.json"}')


if __name__ == '__main__':
    try:
        main()
    except RuntimeError as error:  # of a tool that was called; its log has the rest
        sys.exit(f'error: {error}')
