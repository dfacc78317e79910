"""EpochSeedHook: what an epoch draws depends on seed, epoch and rank only."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.model import BaseModel
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmvg.engine import EpochSeedHook
from mmvg.engine.hooks.epoch_seed_hook import seed_process


class NoisyDataset(Dataset):
    """Draws from (seed, epoch, index) while it trains, as mmvg's datasets do."""

    def __init__(self, length=6):
        self.length = length
        self.seed_and_epoch = torch.zeros(2, dtype=torch.int64).share_memory_()

    def set_epoch(self, seed, epoch):
        self.seed_and_epoch[:] = torch.tensor([seed, epoch])

    @property
    def metainfo(self):
        return dict()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        noise = np.random.default_rng([*self.seed_and_epoch.tolist(), index]).normal(size=4)
        return dict(inputs=torch.tensor(noise, dtype=torch.float32))


class DropoutModel(BaseModel):
    """A linear layer under dropout that keeps what it was fed."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)
        self.seen = []

    def forward(self, inputs, mode='tensor'):
        inputs = torch.stack(inputs)
        self.seen.append(inputs)
        return dict(loss=self.dropout(self.linear(inputs)).square().mean())


def train(work_dir, epochs, seed=3, resume=False, num_workers=0, iterations=None):
    torch.manual_seed(0)
    model = DropoutModel()
    loop = dict(by_epoch=True, max_epochs=epochs)
    if iterations:
        loop = dict(by_epoch=False, max_iters=iterations)
    runner = Runner(
        model,
        str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=dict(type='pseudo_collate'),
            dataset=dict(type=NoisyDataset),
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[EpochSeedHook()],
        randomness=dict(seed=seed),
        resume=resume,
        experiment_name=f'{work_dir.parent.name}_{resume}',
    )
    runner.train()
    # Ends the workers now; garbage collection would wait for them.
    runner.train_dataloader._iterator = None
    if iterations:
        runner.train_loop.dataloader_iterator._iterator = None
    return model


def test_seed_process_repeats_and_separates():
    def draws(*entropy):
        seed_process(*entropy)
        return random.random(), np.random.rand(), torch.rand(()).item()

    assert draws(1, 2, 3) == draws(1, 2, 3)
    others = [draws(1, 2, 4), draws(1, 3, 3), draws(2, 2, 3), draws(2, 1, 3)]
    for i in range(3):
        assert len({value[i] for value in (draws(1, 2, 3), *others)}) == 5


@pytest.mark.parametrize('num_workers, seed', [(0, 3), (0, None), (1, 3)])
def test_resumed_run_repeats_the_unbroken_one(tmp_path, num_workers, seed):
    whole = train(tmp_path / 'run', 3, seed, num_workers=num_workers)
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'epoch_1.pth'))
    resumed = train(tmp_path / 'run', 3, seed, resume=True, num_workers=num_workers)
    assert len(whole.seen) == 9 and len(resumed.seen) == 6
    for ours, theirs in zip(resumed.seen, whole.seen[3:]):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(resumed.parameters(), whole.parameters()):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('iterations', [None, 9])
def test_epochs_and_passes_draw_different_samples(tmp_path, iterations, monkeypatch):
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    model = train(tmp_path / 'run', 3, num_workers=1, iterations=iterations)
    samples = torch.cat(model.seen)
    assert len(samples) == 18
    # An iteration-based loop reads two batches ahead, with what the pass before draws.
    assert len(samples.unique(dim=0)) >= (18 if iterations is None else 18 - 2 * 2 * 2)


class ToldDataset(BaseDataset):
    """Keeps what it is told."""

    def load_data_list(self):
        return [dict(label=0)]

    def get_cat_ids(self, index):
        return [0]

    def set_epoch(self, seed, epoch):
        self.told = seed, epoch


def test_wrapped_datasets_are_told():
    datasets = [ToldDataset() for _ in range(3)]
    wrapped = ConcatDataset(
        [
            datasets[0],
            dict(type=RepeatDataset, dataset=datasets[1], times=2),
            dict(type=ClassBalancedDataset, dataset=datasets[2], oversample_thr=0.1),
        ]
    )
    runner = SimpleNamespace(
        seed=11,
        epoch=4,
        train_loop=EpochBasedTrainLoop.__new__(EpochBasedTrainLoop),
        train_dataloader=DataLoader(wrapped),
    )
    hook = EpochSeedHook()
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    assert [dataset.told for dataset in datasets] == [(11, 4)] * 3
