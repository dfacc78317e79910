"""VCMA in two processes: what is a mean over sentences learns as in one, contrasts are of each process.

With as many sentences in every process, losses of the E- and the M-phase are means over all of them.
The contrast has its negatives within a process; its gradient is the mean of those of the processes.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.runner import CheckpointLoader, Runner

import mmvg  # noqa: F401
from mmvg.apis import set_up_distribution
from mmvg.datasets import ShapesVideoDataset
from mmvg.datasets.video_regions import VideoRegionWriter
from mmvg.structures.regions import Regions

CONFIG = Path(__file__).resolve().parents[2] / 'configs/vcma/vcma_shapes.py'
BATCH, VIDEOS, FRAMES, ITERS = 4, 8, (0, 10, 21, 31), 4
load_checkpoint = CheckpointLoader.load_checkpoint  # reads what mmengine stores


def write_regions(path):
    dataset = ShapesVideoDataset(num_videos=VIDEOS, with_truth=True, pipeline=[])
    with VideoRegionWriter(path, dict(detector='none')) as writer:
        for index in range(VIDEOS):
            record, rng = dataset.get_data_info(index), np.random.default_rng(index)
            features = rng.standard_normal((len(record['tracks']), 64)).astype(np.float32)
            for frame in FRAMES:
                boxes = record['tracks'][:, frame]
                writer.add_frame(
                    *(record['video_id'], frame),
                    Regions(
                        *(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int64)),
                        *(features, rng.standard_normal(64).astype(np.float32), (64, 64)),
                    ),
                )


@METRICS.register_module(force=True)
class ScriptedMetric(BaseMetric):
    """Finds one of ``values`` per validation."""

    default_prefix = ''

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values = name, iter(values)

    def process(self, data_batch, data_samples):
        self.results.extend([0] * len(data_samples))

    def compute_metrics(self, results):
        return {self.name: next(self.values)}


def tiny_config(regions, work_dir, world_size, warmup, values=()):
    """One sentence per sample; plain SGD, for Adam would blow up rounding errors.

    With ``values``, as many validations find them.
    """
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir, cfg.log_level = str(work_dir), 'ERROR'
    cfg.experiment_name = work_dir.name
    cfg.train_cfg.update(max_iters=1 if warmup else ITERS, val_interval=100)
    cfg.custom_hooks[0].update(
        warmup_iters=warmup, e_iters=ITERS // 2, m_iters=ITERS // 2, ramp_rounds=0
    )
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=-1, save_best=None)
    loader = cfg.train_dataloader
    loader.update(batch_size=BATCH // world_size, num_workers=0)
    loader.dataset.update(num_videos=VIDEOS, max_queries=1)
    loader.dataset.pipeline[0].num_frames = len(FRAMES)
    loader.dataset.pipeline[1].region_file = str(regions)
    if values:
        name = cfg.custom_hooks[0].monitor
        cfg.train_cfg.update(val_begin=1, val_interval=ITERS // len(values))
        cfg.val_dataloader.update(batch_size=BATCH, num_workers=0)
        cfg.val_dataloader.dataset = dict(loader.dataset, test_mode=True)
        cfg.val_evaluator = dict(type='ScriptedMetric', name=name, values=values)
        cfg.default_hooks.checkpoint.update(save_best=name, rule='greater')
    else:
        cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.model.tube_head.mil_weight = 0.0  # in the E- and M-phase
    cfg.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
    return cfg


def train(regions, work_dir, warmup, values, env):
    torch.set_num_threads(1)
    rank, world_size = env['RANK'], int(env['WORLD_SIZE'])
    folder = work_dir if rank == '0' or not values else work_dir / 'other_machine'
    cfg = tiny_config(regions, folder, world_size, warmup, values)
    if world_size > 1:
        os.environ.update(env)
        set_up_distribution(cfg, 'pytorch')
    runner = Runner.from_cfg(cfg)
    runner.train()
    torch.save(runner.model.state_dict(), work_dir / f'rank{rank}.pth')


@pytest.fixture(scope='module')
def regions(tmp_path_factory):
    path = tmp_path_factory.mktemp('regions') / 'regions'
    write_regions(path)
    return path


@pytest.fixture
def train_in(launch, regions):
    """Train in so many processes, which all end with the same weights."""

    def train_in(work_dir, world_size, warmup, values=()):
        launch(world_size, train, regions, work_dir, warmup, values)
        found = [torch.load(work_dir / f'rank{rank}.pth') for rank in range(world_size)]
        for name, tensor in found[0].items():
            assert torch.equal(found[-1][name], tensor), name

    return train_in


def state_after(work_dir, iteration):
    return load_checkpoint(str(work_dir / f'iter_{iteration}.pth'))['state_dict']


def initial(regions, folder):
    return Runner.from_cfg(tiny_config(regions, folder / 'initial', 1, 0))


def changed(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


def assert_close(one, other, start):
    """Equal, by far less than the training moved them."""
    for name, tensor in one.items():
        torch.testing.assert_close(
            other[name], tensor, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f'{name}: {text}'
        )
    assert max((one[n] - start[n]).abs().max() for n in one) > 1e-3


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='compares processes on the CPU')
def test_two_processes_learn_in_both_phases_as_one(tmp_path, train_in, regions):
    train_in(tmp_path / 'one', 1, 0)
    train_in(tmp_path / 'two', 2, 0)
    start = initial(regions, tmp_path).model.state_dict()
    one, two = (state_after(tmp_path / folder, ITERS) for folder in ('one', 'two'))
    assert_close(one, two, start)
    # The network that rests does not move at all.
    half, end = state_after(tmp_path / 'two', ITERS // 2), two
    e_phase, m_phase = changed(start, half), changed(half, end)
    assert e_phase and all(name.startswith('tube_head.posterior.') for name in e_phase)
    assert m_phase and not any(name.startswith('tube_head.posterior.') for name in m_phase)
    assert {'tube_head.prior', 'tube_head.relation'} == {
        '.'.join(name.split('.')[:2]) for name in m_phase
    }


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='compares processes on the CPU')
def test_the_contrast_of_two_processes_is_the_mean_of_their_own(tmp_path, train_in, regions):
    train_in(tmp_path / 'two', 2, 10)
    runner = initial(regions, tmp_path)
    model, dataset = runner.model.train(), runner.train_dataloader.dataset
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    order = iter(runner.train_dataloader.sampler)
    indices = [next(order) for _ in range(BATCH)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for rank in range(2):
        batch = model.data_preprocessor(
            pseudo_collate([dataset[i] for i in indices[rank::2]]), True
        )
        (sum(model(**batch, mode='loss').values()) / 2).backward()
    optimizer.step()
    found = model.state_dict()
    two = state_after(tmp_path / 'two', 1)
    two['tube_head.beta_scale'] = found['tube_head.beta_scale']  # 0 in the warm-up
    assert_close(found, two, start)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='the processes would need a GPU each')
def test_both_processes_end_with_the_best_weights_though_one_has_no_file(
    tmp_path, train_in, regions
):
    """:func:`train_in` compares their weights; only the main process can write checkpoints."""
    folder = tmp_path / 'two'
    train_in(folder, 2, 0, values=(2.0, 1.0))
    assert not list((folder / 'other_machine').rglob('*.pth'))
    found = torch.load(folder / 'rank1.pth')
    found = {name.removeprefix('module.'): tensor for name, tensor in found.items()}
    assert not changed(found, state_after(folder, ITERS // 2))
    assert changed(found, state_after(folder, ITERS))
