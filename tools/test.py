"""Evaluate a checkpoint; optionally dump predictions and draw pictures."""

import argparse
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

from mmdet.registry import METRICS
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmvg.apis import (
    check_checkpoint_path,
    check_files,
    class_of,
    concise_errors,
    leave_distribution,
    load_config,
    load_weights,
    set_up_distribution,
    split_datasets,
)
from mmvg.apis.inference import is_video_model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument(
        'checkpoint', help="checkpoint file; 'none' for a config without anything learned"
    )
    parser.add_argument('--work-dir', help='where the log goes (default: work_dirs/<config name>)')
    parser.add_argument(
        '--out',
        metavar='FILE.json',
        help='dump all predictions; those about pictures tools/analysis_tools/eval_predictions.py '
        'scores again',
    )
    parser.add_argument('--show', action='store_true', help='open a window per picture')
    parser.add_argument('--show-dir', help='write a picture of every sample to this very folder')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds that a window stays open'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation by the config's tta_model and tta_pipeline",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config entries, e.g. test_dataloader.batch_size=8 key="[a,b]"',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def dumping_metrics(evaluator: dict | list) -> Iterator[ConfigDict]:
    """Every metric that can write its samples to an ``out_file``, however deep in the config."""
    for item in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        # Derived metrics hand their parents' arguments on.
        parents = inspect.getmro(class_of(item, METRICS))
        if any('out_file' in inspect.signature(p.__init__).parameters for p in parents):
            yield item
        yield from dumping_metrics(item.get('metrics', []))


def dump_predictions(cfg: Config, out: str) -> None:
    """Make the config's metric write its samples to ``out``."""
    path = Path(out)
    if path.suffix != '.json':
        raise ValueError(
            f'--out {out}: predictions are written as JSON, give a name that ends in .json'
        )
    metrics = list(dumping_metrics(cfg.test_evaluator))
    if not metrics:
        raise ValueError(
            '--out needs a metric with out_file in test_evaluator of the config: a GroundingMetric, or '
            'for videos a VideoTubeMetric'
        )
    for i, metric in enumerate(metrics):
        metric.out_file = str(path if len(metrics) == 1 else path.with_stem(f'{path.stem}_{i}'))


def draw_pictures(cfg: Config, args: argparse.Namespace) -> None:
    """Switch the config's QueryVisualizationHook on."""
    if is_video_model(cfg):
        raise ValueError(
            f'--show and --show-dir draw pictures, but {cfg.filename} is of a model of videos; '
            'tools/infer.py --videos draws its answers'
        )
    hook = cfg.setdefault('default_hooks', ConfigDict()).setdefault(
        'visualization', ConfigDict(type='QueryVisualizationHook')
    )
    hook.update(draw=True, show=args.show, wait_time=args.wait_time, test_out_dir=args.show_dir)


def augment_at_test_time(cfg: Config) -> None:
    """Wrap the model in ``tta_model`` and let every test data set use ``tta_pipeline``."""
    missing = [key for key in ('tta_model', 'tta_pipeline') if not cfg.get(key)]
    if missing:
        raise ValueError(
            f'--tta needs {" and ".join(missing)} in {cfg.filename}; add them as configs/transvg do'
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for _, dataset in split_datasets(cfg, ['test']):
        dataset.pipeline = cfg.tta_pipeline


def evaluate(args: argparse.Namespace) -> None:
    with concise_errors():
        cfg = load_config(args.config, args.cfg_options, args.work_dir)
        learned = args.checkpoint != 'none'
        if learned:
            check_checkpoint_path(args.checkpoint)
        cfg.load_from = args.checkpoint if learned else None
        if args.out:
            dump_predictions(cfg, args.out)
        if args.show or args.show_dir:
            draw_pictures(cfg, args)
        if args.tta:
            augment_at_test_time(cfg)
        check_files(cfg, ('test',))
        set_up_distribution(cfg, args.launcher)
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        _ = runner.test_loop  # builds the data set: bad data is reported here
        if learned:
            load_weights(runner.model, args.checkpoint)  # so is a checkpoint of another model
    # The runner loads the file again, for hooks that take part in loading.
    runner.test()


def main() -> None:
    evaluate(parse_args())
    leave_distribution()  # now that the runner is gone


if __name__ == '__main__':
    main()
