from itertools import islice

from mmdet.registry import LOOPS
from mmengine.dataset import InfiniteSampler
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader


@LOOPS.register_module()
class ResumableIterTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop, but a resumed run does not read again what it was trained on.

    MMEngine 0.10 loads all earlier batches once more and drops them, which takes hours late in a long
    training. Here an :class:`InfiniteSampler` skips their indices; with other samplers all is as there.
    Later batches have the same samples as in an unbroken run; random numbers drawn while loading
    are the same only where they do not follow from the batches before.
    """

    def run(self) -> None:
        """Train, from the batch after the last one."""
        sampler, size = self.dataloader.sampler, self.dataloader.batch_size
        if self._iter > 0 and size and isinstance(sampler, InfiniteSampler):
            self.dataloader_iterator = _LaterBatches(self.dataloader, self._iter)
        return super().run()


class _LaterBatches:
    """Of a data loader with an :class:`InfiniteSampler`; each of the first ``done`` is None, unread."""

    def __init__(self, dataloader: DataLoader, done: int) -> None:
        sampler = dataloader.sampler
        # From the start: workers may have fetched some already.
        fresh = InfiniteSampler(sampler.dataset, sampler.shuffle, sampler.seed)
        sampler.indices = islice(fresh.indices, done * dataloader.batch_size, None)
        self._skipped = done
        self._batches = iter(dataloader)

    def __next__(self) -> object:
        if self._skipped:
            self._skipped -= 1
            return None
        return next(self._batches)

    def skip_iter(self, count: int) -> None:
        """Of the first ones; newer MMEngine asks for all of them at once."""
        self._skipped -= count
