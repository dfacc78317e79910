import random
from collections.abc import Iterator

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dist import broadcast, get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import Dataset


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Make what an epoch draws depend on (seed, epoch, rank) and on nothing else.

    A checkpoint of mmengine holds no state of any random number generator. A resumed run therefore
    draws other dropout masks and other augmentations than the run that it continues. This hook
    seeds ``random``, ``numpy`` and ``torch`` of the training process at the start of every epoch,
    and tells each dataset that has ``set_epoch(seed, epoch)`` where training stands.

    The datasets need telling because mmengine's ``worker_init_fn`` seeds a worker from the run's
    seed and the worker's number alone: workers that are started anew each epoch repeat the draws of
    the first epoch, and persistent ones draw what their history makes them draw, which a resumed
    run has not. mmvg's datasets keep (seed, epoch) in shared memory, where running workers see it,
    and seed each sample from (seed, epoch, index), so that neither the number of workers nor the
    number of processes changes what a sample looks like. Other datasets stay as mmengine has them.

    With an ``EpochBasedTrainLoop`` a resumed run repeats the unbroken one bit for bit. In an
    ``IterBasedTrainLoop`` an "epoch" is one pass of the dataloader: augmentation and dropout differ
    from pass to pass, but a run resumed within a pass does not repeat the unbroken one exactly.
    """

    def __init__(self) -> None:
        self._seed = 0
        self._epoch: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Agree on one seed, that of rank 0, which is also the one that checkpoints carry."""
        seed = torch.tensor(runner.seed, dtype=torch.int64)
        broadcast(seed)
        self._seed = int(seed)
        # When the config gives no seed, a resumed run builds its sampler with a newly drawn one
        # before it reads the old one from the checkpoint.
        # A batch sampler of one's own holds the sampler that counts.
        dataloader = runner.train_dataloader
        sampler = getattr(dataloader.batch_sampler, 'sampler', dataloader.sampler)
        if hasattr(sampler, 'seed'):
            sampler.seed = self._seed

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this process and the datasets, before the dataloader starts to read ahead."""
        self._start_epoch(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Seed this process again before the first step of an epoch.

        A dataloader draws a number when it starts workers: with persistent workers that is once in
        a run, and would set a resumed run apart from an unbroken one.
        """
        if _current_epoch(runner) != self._epoch:
            self._start_epoch(runner)
        elif batch_idx == 0:
            seed_process(self._seed, self._epoch, get_rank())

    def _start_epoch(self, runner: Runner) -> None:
        self._epoch = _current_epoch(runner)
        seed_process(self._seed, self._epoch, get_rank())
        for dataset in _unwrap(runner.train_dataloader.dataset):
            if hasattr(dataset, 'set_epoch'):
                dataset.set_epoch(self._seed, self._epoch)


def seed_process(*entropy: int) -> None:
    """Seed ``random``, ``numpy`` and ``torch`` (all its devices) from non-negative integers."""
    python, numpy, pytorch = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(python))
    np.random.seed(int(numpy))
    torch.manual_seed(int(pytorch))


def _current_epoch(runner: Runner) -> int:
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        return runner.epoch
    return runner.iter // max(len(runner.train_dataloader), 1)


def _unwrap(dataset: Dataset) -> Iterator[Dataset]:
    """Yield a dataset and all that it wraps (``ConcatDataset``, ``RepeatDataset``, ...)."""
    yield dataset
    for inner in getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]:
        if inner is not None:
            yield from _unwrap(inner)
