"""A resumed run has the batches of an unbroken one, and reads no others."""

from types import SimpleNamespace

import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from mmvg.engine import ResumableIterTrainLoop


class Numbers(Dataset):
    metainfo = dict()

    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.read.append(index)
        return index


def run(done, sampler=InfiniteSampler, workers=0, iters=9):
    """Batches of iterations ``done`` to 8; and what was read, where there are no workers."""
    dataset, seen = Numbers(), []
    loader = DataLoader(
        dataset,
        batch_size=3,
        sampler=sampler(dataset, shuffle=True, seed=5),
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    runner = SimpleNamespace(
        visualizer=SimpleNamespace(),
        call_hook=lambda *args, **kwargs: None,
        model=SimpleNamespace(
            train=lambda: None, train_step=lambda batch, optim_wrapper: seen.append(batch.tolist())
        ),
        optim_wrapper=None,
        val_loop=None,
    )
    loop = ResumableIterTrainLoop(runner, loader, max_iters=iters)
    loop._iter = done  # as Runner.resume does
    loop.run()
    assert loop.iter == iters
    return seen, dataset.read


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('done', [1, 4, 8])
def test_goes_on_with_the_next_batch(done, workers):
    whole, _ = run(0)
    rest, read = run(done, workers=workers)
    assert rest == whole[done:]
    if not workers:
        assert read == sum(rest, [])


def test_other_samplers_go_on_too():
    whole, _ = run(0, DefaultSampler, iters=3)
    rest, _ = run(2, DefaultSampler, iters=3)
    assert rest == whole[2:]
