"""Batches bounded by their queries: complete, balanced, repeatable, alike on all processes."""

import numpy as np
import pytest
import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, DefaultSampler
from mmengine.runner import CheckpointLoader, Runner

import mmvg  # noqa: F401
from mmvg.datasets import GroundingJSONLDataset


class Records:
    """Samples of the given numbers of queries; every third picture is upright."""

    def __init__(self, sizes, **extra):
        self.sizes, self.extra = sizes, extra

    def __len__(self):
        return len(self.sizes)

    def get_data_info(self, i):
        width = 480 if i % 3 else 640
        shape = dict(width=width, height=1120 - width)
        return dict(queries=['a'] * self.sizes[i], source=f'file:{i}') | shape | self.extra


@pytest.fixture
def build(monkeypatch):
    """Factory of the batch sampler of one of several processes."""

    def make(dataset, rank=0, world_size=1, seed=0, epoch=0, batch_size=100, **kwargs):
        info = 'mmengine.dataset.sampler.get_dist_info'
        monkeypatch.setattr(info, lambda: (rank, world_size))
        sampler = DefaultSampler(dataset, seed=seed)
        sampler.set_epoch(epoch)
        config = dict(type='QueryBudgetBatchSampler', batch_size=batch_size, sampler=sampler)
        return DATA_SAMPLERS.build({**config, **kwargs})

    return make


@pytest.fixture(scope='module')
def records():
    return Records((1 + np.random.default_rng(0).poisson(6, 500)).tolist())


@pytest.mark.parametrize('world_size', [1, 2, 3])
@pytest.mark.parametrize('options', [{}, dict(batch_size=6), dict(aspect_buckets=4)])
def test_every_sample_once_within_the_budgets(build, records, world_size, options):
    by_rank = []
    for rank in range(world_size):
        sampler = build(records, rank, world_size, epoch=3, max_queries=64, **options)
        by_rank.append(list(sampler))
        assert len(by_rank[rank]) == len(sampler) == len(by_rank[0])
    batches = sum(by_rank, [])
    assert sorted(sum(batches, [])) == list(range(500))
    queries = [sum(records.sizes[i] for i in batch) for batch in batches]
    assert max(queries) <= 64
    assert max(map(len, batches)) <= options.get('batch_size', 100)
    if not options:
        # Hardly more batches than must be, all nearly full: nothing is left over for the end.
        assert len(batches) < sum(records.sizes) / 64 + 1 + world_size
        assert max(queries) - min(queries) <= 4


def test_draw_follows_from_seed_and_epoch(build, records):
    def batches(**kwargs):
        return list(build(records, max_queries=40, **kwargs))

    first = batches(seed=1, epoch=2)
    assert first == batches(seed=1, epoch=2)
    for other in (batches(seed=1, epoch=3), batches(seed=2, epoch=2)):
        assert len(other) == len(first)
        assert {frozenset(b) for b in other}.isdisjoint({frozenset(b) for b in first})
    sampler = build(records, seed=1, epoch=0, max_queries=40)
    assert next(iter(sampler)) != first[0]  # an iterator that is given up leaves nothing behind
    sampler.sampler.set_epoch(2)
    assert list(sampler) == first


def test_draw_is_even(build):
    """Whether two samples meet in a batch must not depend on where they stand in the file."""
    sampler = build(Records([2] * 6), max_queries=4)
    met = np.zeros((6, 6))
    for epoch in range(600):
        sampler.sampler.set_epoch(epoch)
        for a, b in sampler:
            met[a, b] += 1
            met[b, a] += 1
    off_diagonal = met[~np.eye(6, dtype=bool)]
    assert abs(off_diagonal - 600 / 5).max() < 5 * np.sqrt(600 * 0.2 * 0.8)


def test_aspect_buckets_keep_shapes_apart(build, records):
    ranks = [list(build(records, r, 2, max_queries=64, aspect_buckets=3)) for r in range(2)]
    upright = [[{i % 3 > 0 for i in batch} for batch in batches] for batches in ranks]
    mixed = sum(len(shapes) > 1 for shapes in sum(upright, []))
    # A third of the pictures lies: only the batches around one border can hold both shapes.
    assert mixed <= 2 and len(sum(upright, [])) > 50
    # Processes do the same shape at the same time.
    assert sum(a != b for a, b in zip(*upright, strict=True)) <= mixed


def test_equal_samples_and_one_sample_per_batch(build):
    assert len(build(Records([5] * 7), max_queries=9)) == 7  # two never fit
    assert list(build(Records([5]), max_queries=5)) == [[0]]
    assert len(build(Records([1] * 1000), max_queries=10, batch_size=4)) == 250


@pytest.mark.parametrize(
    ('dataset', 'kwargs', 'message'),
    [
        (Records([3, 70]), {}, 'file:1: 70 queries, .*max_queries of the data set'),
        (Records([3], queries=[]), {}, 'file:0: 0 queries'),
        (Records([3] * 2), dict(world_size=3), '2 samples are too few for 3 processes'),
        (Records([3] * 2), dict(aspect_buckets=3), 'lower aspect_buckets'),
        (Records([3], width=None), dict(aspect_buckets=2), 'file:0: .*width and height'),
        (Records([3]), dict(max_queries=0), 'must be 1 or more'),
        (Records([3]), dict(sampler=range(3)), "type='DefaultSampler', shuffle=True"),
        (Records([3]), dict(sampler=DefaultSampler([0], shuffle=False)), 'shuffle=True'),
    ],
)
def test_unusable_input_is_refused(build, dataset, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(dataset, **{'max_queries': 64, **kwargs})


def test_grouped_datasets_joined(build, tmp_path):
    """Real data sets: groups of an image, several files; every query once per epoch."""
    line = '{"image": "%d.jpg", "text": "q%d", "bbox": [0, 0, 5, 5]}'
    options = dict(data_root=str(tmp_path), group_by_image=True, max_queries=3)
    for name in 'ab':
        rows = [line % (i % 5, i) for i in range(23)]
        (tmp_path / f'{name}.jsonl').write_text('\n'.join(rows))
    parts = [GroundingJSONLDataset(f'{name}.jsonl', **options) for name in 'ab']
    dataset = ConcatDataset(parts)
    queries = [
        query
        for rank in range(2)
        for batch in build(dataset, rank, 2, max_queries=8)
        for i in batch
        for query in dataset.get_data_info(i)['queries']
    ]
    assert sorted(queries) == sorted([f'q{i}' for i in range(23)] * 2)


# Training


def tiny_config(work_dir, batch_sampler):
    cfg = Config.fromfile('configs/transvg/transvg_shapes.py')
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'ERROR'
    cfg.resume = True
    cfg.train_cfg.update(max_epochs=2, val_interval=9)
    cfg.default_hooks.checkpoint.update(save_best=None, max_keep_ckpts=-1)
    cfg.train_dataloader.update(batch_size=6, drop_last=False, batch_sampler=batch_sampler)
    cfg.train_dataloader.dataset.num_scenes = 18
    cfg.val_dataloader.dataset.num_scenes = 4
    return cfg


def test_resumed_training_equals_an_unbroken_one(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    batch_sampler = dict(type='QueryBudgetBatchSampler', max_queries=14, aspect_buckets=2)
    seen, stop_at = [], []

    def run(work_dir, seed):
        cfg = tiny_config(work_dir, batch_sampler)
        cfg.randomness = dict(seed=seed)
        runner = Runner.from_cfg(cfg)
        step = runner.model.train_step

        def train_step(data, optim_wrapper):
            ids = sorted(s.img_id for s in data['data_samples'])
            seen.append((ids, sum(len(s.queries) for s in data['data_samples'])))
            if len(seen) in stop_at:
                raise KeyboardInterrupt
            return step(data, optim_wrapper)

        monkeypatch.setattr(runner.model, 'train_step', train_step)
        runner.train()
        return CheckpointLoader.load_checkpoint(f'{work_dir}/epoch_2.pth', 'cpu')['state_dict']

    expected = run(tmp_path / 'whole', 5)
    unbroken = seen.copy()
    per_epoch = len(unbroken) // 2
    for epoch in range(2):
        batches = unbroken[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(sum((ids for ids, _ in batches), [])) == list(range(18))
    assert max(queries for _, queries in unbroken) <= 14

    seen.clear()
    stop_at.append(per_epoch + 2)  # in the middle of the second epoch
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'broken', 5)
    seen[:] = seen[:per_epoch]
    stop_at.clear()
    # The config's seed is gone: that of the checkpoint counts.
    torch.testing.assert_close(run(tmp_path / 'broken', 77), expected, rtol=0, atol=0)
    assert seen == unbroken
