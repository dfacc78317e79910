"""Time two settings against each other in one interleaved run; prints medians and their ratios.

The ratios are the second setting's time over the first's: by the clock, and of the process's CPU time (all
threads), which other programs on a busy machine change less. With an accelerator the clock counts.

Comparisons (--compare):
    queries   inference: K queries as one sample, which share the encoding of their image (all of it,
              or what depends on no query), or as K samples
    reg-row   inference: the last fusion layer computes the [REG] row only, or all rows
    train     training step (fp32): K queries as one sample, or as K samples
    distil    training step of an EpmVG config: without and with its distillation, caches warm
    loading   data loading: an image decoded once for its K queries, or once per query

Of a ReIR config, training steps on --num-images captions (--size 600 900 is that of Flickr30k):
    reir-batch           one batch, or image by image; cached features, no ranking loss
    reir-batch-live      the same with live features
    reir-cache           cached or live features, before boxes are refined
    reir-cache-maps      the same when boxes are refined, with cached feature maps
    reir-cache-pictures  the same without: the backbone runs for refined boxes

Weights are random and, but for 'loading', so is the picture: neither changes the time.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import benchmark_reir
import numpy as np
import torch
from mmdet.registry import DATASETS, HOOKS, TRANSFORMS
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmvg.apis import GroundingInferencer, concise_errors, load_config, split_datasets
from mmvg.datasets import GroundingDataset

Setting = tuple[str, Callable[[], object]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument(
        '--compare', nargs='+', choices=list(COMPARISONS), default=['queries', 'reg-row', 'train']
    )
    parser.add_argument('--num-queries', type=int, default=7, help='K (default: %(default)s)')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), default=(480, 640), help='of the picture'
    )
    parser.add_argument('--num-images', type=int, default=40, help='of ReIR (default: %(default)s)')
    parser.add_argument('--query', default='the red car on the left', help='default: %(default)s')
    parser.add_argument('--rounds', type=int, default=10, help='default: %(default)s')
    parser.add_argument('--device', help='e.g. cpu or cuda:0 (default: the best available)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def samples(
    inferencer: GroundingInferencer,
    args: argparse.Namespace,
    together: bool,
    first: Callable[[dict], dict] = lambda record: record,
) -> dict:
    """A batch of K queries on one random picture, as one sample or as K.

    ``first`` is a transform that comes before those of the test pipeline.
    """
    image = np.random.RandomState(0).randint(0, 256, (*args.size, 3), dtype=np.uint8)
    groups = [[args.query] * args.num_queries] if together else [[args.query]] * args.num_queries
    packed = []
    for queries in groups:
        record = inferencer.loader(dict(img=image, img_path='random', queries=queries))
        packed.append(inferencer.pipeline(first(record)))
        height, width = packed[-1]['inputs'].shape[-2:]
        box = torch.tensor([[width / 4, height / 4, width / 2, height / 2]])
        packed[-1]['data_samples'].gt_instances = InstanceData(bboxes=box.repeat(len(queries), 1))
    return pseudo_collate(packed)


def compare_queries(cfg: Config, args: argparse.Namespace) -> list[Setting]:
    inferencer = GroundingInferencer(cfg, device=args.device)
    step = torch.no_grad()(inferencer.model.test_step)
    return [
        ('one sample of K queries', partial(step, samples(inferencer, args, True))),
        ('K samples of one query', partial(step, samples(inferencer, args, False))),
    ]


def compare_reg_row(cfg: Config, args: argparse.Namespace) -> list[Setting]:
    inferencer = GroundingInferencer(cfg, device=args.device)
    fusion = inferencer.model.bbox_head.fusion
    reg_row = fusion.forward
    batch = samples(inferencer, args, True)

    @torch.no_grad()
    def run(forward: Callable) -> None:
        fusion.forward = forward
        inferencer.model.test_step(batch)

    def all_rows(tokens, pos, mask, rows):
        return reg_row(tokens, pos, mask)

    return [
        ('last fusion layer: [REG] row', partial(run, reg_row)),
        ('last fusion layer: all rows', partial(run, all_rows)),
    ]


def compare_train(cfg: Config, args: argparse.Namespace) -> list[Setting]:
    inferencer = GroundingInferencer(cfg, device=args.device)
    model = inferencer.model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def step(batch: dict) -> None:
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimizer.step()

    return [
        ('one sample of K queries', partial(step, samples(inferencer, args, True))),
        ('K samples of one query', partial(step, samples(inferencer, args, False))),
    ]


def compare_distil(cfg: Config, args: argparse.Namespace) -> list[Setting]:
    """K samples of one query; without ``teacher.pretrained`` the teacher has random weights."""
    inferencer = GroundingInferencer(cfg, device=args.device)
    model = inferencer.model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    if 'distillation' not in cfg.default_hooks:
        raise ValueError(
            'distil needs a config with default_hooks.distillation, such as those of epmvg'
        )
    hook = HOOKS.build(cfg.default_hooks.distillation)
    runner = SimpleNamespace(
        model=model, optim_wrapper=OptimWrapper(optimizer), param_schedulers=[], _resume=False
    )
    hook.before_run(runner)
    if hook.teacher is None:
        raise ValueError('distil needs alpha or beta of default_hooks.distillation above 0')
    view = TRANSFORMS.build(dict(type='AddTeacherView', **hook.teacher.view_cfg))
    batch = samples(inferencer, args, False, view)

    def step(distil: bool) -> None:
        if distil:
            hook.before_train(runner)
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimizer.step()
        hook.after_train(runner)

    return [
        ('without distillation', partial(step, False)),
        ('with distillation', partial(step, True)),
    ]


def compare_loading(cfg: Config, args: argparse.Namespace) -> list[Setting]:
    """Both settings load the same queries, those of the first images."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    _, single = split_datasets(cfg, ['train'])[0]

    def build(max_queries: int) -> GroundingDataset:
        options = dict(group_by_image=True, max_queries=max_queries)
        return DATASETS.build({**single, **options})

    grouped, apart = build(args.num_queries), build(1)
    images = min(64, len(grouped))
    queries = sum(len(grouped.get_data_info(i)['queries']) for i in range(images))
    if queries == images:
        raise ValueError('the first images of train_dataloader.dataset have one query each')

    def load(dataset: GroundingDataset, samples: int) -> None:
        for i in range(samples):
            dataset.pipeline(dataset.get_data_info(i))

    return [
        (f'{queries} queries in {images} samples', partial(load, grouped, images)),
        (f'{queries} samples of one query', partial(load, apart, queries)),
    ]


COMPARISONS = {
    'queries': compare_queries,
    'reg-row': compare_reg_row,
    'train': compare_train,
    'distil': compare_distil,
    'loading': compare_loading,
    **benchmark_reir.COMPARISONS,
}


def measure(settings: list[Setting], rounds: int) -> list[list[tuple[float, float]]]:
    """Seconds (by the clock, of the CPUs) of every round of each setting.

    The settings take turns and swap their order.
    """
    for _, run in settings:
        run()  # warm up
    times = [[] for _ in settings]
    for turn in range(rounds):
        for i in range(len(settings)) if turn % 2 else reversed(range(len(settings))):
            synchronise()
            clock, processor = time.perf_counter(), time.process_time()
            settings[i][1]()
            synchronise()
            times[i].append((time.perf_counter() - clock, time.process_time() - processor))
    return times


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    args = parse_args()
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    print(
        f'torch {torch.__version__}, {hardware}, {torch.get_num_threads()} CPU threads; '
        f'K = {args.num_queries}, {args.rounds} rounds'
    )
    for name in args.compare:
        with concise_errors():
            cfg = load_config(args.config, args.cfg_options)
            settings = COMPARISONS[name](cfg, args)
        times = measure(settings, args.rounds)
        medians = [[statistics.median(t) for t in zip(*rounds, strict=True)] for rounds in times]
        for (title, _), (clock, processor) in zip(settings, medians, strict=True):
            print(f'{name:8} {title:30} {1000 * clock:9.1f} ms, CPU {1000 * processor:9.1f} ms')
        clock, processor = (b / a for a, b in zip(*medians, strict=True))
        print(f'{name:8} {"ratio of the medians":30} {clock:9.2f} x')
        print(f'{name:8} {"CPU time, ratio of the medians":30} {processor:9.2f} x', flush=True)


if __name__ == '__main__':
    main()
