"""Train a grounder from a config file."""

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from mmvg.apis import (
    check_files,
    check_first_picture,
    check_initial_weights,
    check_together,
    concise_errors,
    leave_distribution,
    load_config,
    set_up_distribution,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument(
        '--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision; needs an accelerator')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rates by batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='continue from CKPT, or without a value from the latest checkpoint in the work dir',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config entries, e.g. train_dataloader.batch_size=8 key="[a,b]"',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes one or the other spelling; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def apply_flags(cfg: Config, args: argparse.Namespace) -> None:
    """Write --amp, --auto-scale-lr and --resume into the config."""
    if args.amp:
        if get_device() == 'cpu':
            raise ValueError(
                '--amp needs an accelerator (CUDA, NPU, MLU or MUSA), none is visible; leave it out'
            )
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ValueError(
                f'--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in {args.config}: '
                'the total batch size that its learning rates are meant for'
            )
        cfg.auto_scale_lr.enable = True
    checkpoint = args.resume
    if checkpoint == 'auto':
        # None before the first checkpoint: the run then starts as the config says, load_from
        # included, which mmengine's own automatic resume would forget.
        checkpoint = find_latest_checkpoint(cfg.work_dir)
    if checkpoint is not None:
        if '://' not in checkpoint and not os.path.isfile(checkpoint):
            raise FileNotFoundError(
                f'checkpoint {checkpoint} to resume from does not exist; give the path of another '
                'one, or leave --resume out to start anew'
            )
        cfg.resume, cfg.load_from = True, checkpoint


def start_up_checks(runner: Runner, cfg: Config) -> Iterator[Callable[[], object]]:
    """All that a training can lack: initial weights, data, and what models and hooks ask for."""
    # They are a detector's, of which a model without a backbone has no part.
    if not cfg.get('resume') and (cfg.get('load_from') or 'backbone' in cfg.model):
        yield lambda: check_initial_weights(runner.model, cfg.get('load_from'))
    # Both properties build their data sets on first access.
    yield lambda: check_first_picture(runner.train_loop.dataloader.dataset)
    if cfg.get('val_cfg'):
        yield lambda: runner.val_loop
    for part in (*runner.model.modules(), *runner.hooks):
        if hasattr(part, 'check_pretrained'):
            yield part.check_pretrained
    for hook in runner.hooks:
        if hasattr(hook, 'check_model'):
            yield partial(hook.check_model, runner.model)
        if hasattr(hook, 'check_data'):
            yield lambda hook=hook: hook.check_data(runner.train_loop.dataloader.dataset)


def train(args: argparse.Namespace) -> None:
    with concise_errors():
        cfg = load_config(args.config, args.cfg_options, args.work_dir)
        apply_flags(cfg, args)
        # Before the model, whose sizes may depend on files.
        check_files(cfg, ('train', 'val') if cfg.get('val_cfg') else ('train',))
        set_up_distribution(cfg, args.launcher)
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        check_together(start_up_checks(runner, cfg))
    runner.train()


def main() -> None:
    train(parse_args())
    leave_distribution()  # now that the runner is gone


if __name__ == '__main__':
    main()
