import heapq
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler
from mmengine.logging import MMLogger
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class QueryBudgetBatchSampler(Sampler[list[int]]):
    """Batches of at most ``max_queries`` queries, for samples that hold different numbers of them.

    With ``group_by_image=True`` a sample holds all expressions of its image, and a batch of a fixed
    number of images holds 10 queries or 100. Here all batches hold about as many, on every
    process. Each sample comes once per epoch, none is dropped or repeated, and the number of
    batches is the same in every epoch and on every process, as schedules that count iterations
    need.

    Samples are dealt out to the batches by size, each to the one with the fewest queries so far
    (longest processing time first, Graham 1969). That plan depends on the sizes only and is made
    once; an epoch draws which of the samples of a size takes which of its places. The draw follows
    from the seed and epoch of ``sampler``, which ``DistSamplerSeedHook`` and ``EpochSeedHook`` set,
    so a resumed run continues as an unbroken one.

    For training only: processes hold different numbers of samples, which mmengine's collection of
    results does not expect. For samples of one query each mmdet's ``AspectRatioBatchSampler`` does.
    In a config (PyTorch takes no ``drop_last`` beside a batch sampler)::

        train_dataloader = dict(
            batch_size=16,
            drop_last=False,
            batch_sampler=dict(type='QueryBudgetBatchSampler', max_queries=64),
            dataset=dict(group_by_image=True, max_queries=8),
        )

    Args:
        sampler (DefaultSampler): Gives data set, seed, epoch, rank and number of processes.
        batch_size (int): Most images in a batch; that of the dataloader.
        max_queries (int): Most queries in a batch.
        aspect_buckets (int): Images are parted by width / height into so many equal parts; a batch,
            and what other processes do at the same time, stay in one of them. Saves padding where
            pictures are not put on a fixed canvas. Records must tell their width and height.

    Raises:
        ValueError: If a sample has more than ``max_queries`` queries, or the samples are too few to
            give every process as many batches.
    """

    def __init__(
        self, sampler: DefaultSampler, batch_size: int, max_queries: int, aspect_buckets: int = 1
    ) -> None:
        if not isinstance(sampler, DefaultSampler) or not sampler.shuffle:
            raise ValueError(
                'QueryBudgetBatchSampler is for training and needs '
                f"sampler=dict(type='DefaultSampler', shuffle=True), got {sampler}"
            )
        if min(batch_size, max_queries, aspect_buckets) < 1:
            raise ValueError(
                'batch_size, max_queries and aspect_buckets must be 1 or more, got '
                f'{batch_size}, {max_queries} and {aspect_buckets}'
            )
        self.sampler = sampler
        self.batch_size = batch_size
        self.max_queries = max_queries
        self._sizes, ratios = self._read(aspect_buckets > 1)
        self._buckets = np.array_split(np.argsort(ratios, kind='stable'), aspect_buckets)
        self._plans = [self._plan(np.sort(self._sizes[bucket])[::-1]) for bucket in self._buckets]
        self._num_batches = sum(plan.max() + 1 for plan in self._plans)
        MMLogger.get_current_instance().info(
            f'{self._num_batches} batches per epoch, on average of '
            f'{self._sizes.sum() / self._num_batches:.1f} queries and '
            f'{len(self._sizes) / self._num_batches:.1f} images'
        )

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of this process."""
        sampler, rounds = self.sampler, []
        rng = np.random.default_rng((sampler.seed, sampler.epoch))
        for bucket, plan in zip(self._buckets, self._plans, strict=True):
            order = rng.permutation(bucket)
            order = order[np.argsort(-self._sizes[order], kind='stable')]
            ends = np.cumsum(np.bincount(plan))[:-1]
            batches = np.split(order[np.argsort(plan, kind='stable')], ends)
            turns = rng.permutation(len(batches)).reshape(-1, sampler.world_size)
            rounds += [batches[turn[sampler.rank]] for turn in turns]
        for i in rng.permutation(len(rounds)):
            yield rounds[i].tolist()

    def __len__(self) -> int:
        """The number of batches of this process, in every epoch."""
        return int(self._num_batches) // self.sampler.world_size

    def _read(self, with_ratio: bool) -> tuple[np.ndarray, np.ndarray]:
        """Number of queries, and width / height (else 0), of every sample."""
        dataset = self.sampler.dataset
        sizes, ratios = [], []
        for i in range(len(dataset)):
            record = dataset.get_data_info(i)
            origin = record.get('source') or record.get('img_path')
            size = len(record.get('queries') or ())
            if not 1 <= size <= self.max_queries:
                raise ValueError(
                    f'{origin}: {size} queries, a batch takes 1 to {self.max_queries}; set '
                    'max_queries of the data set, which splits larger groups, to that of the '
                    'batch sampler or less'
                )
            if with_ratio and not (record.get('width') and record.get('height')):
                raise ValueError(
                    f'{origin}: the record does not tell width and height; use an annotation file '
                    'that does, or aspect_buckets=1'
                )
            sizes.append(size)
            ratios.append(record['width'] / record['height'] if with_ratio else 0)
        return np.array(sizes), np.array(ratios)

    def _plan(self, sizes: np.ndarray) -> np.ndarray:
        """The batch of each of the descending sizes, with as few batches as the budgets allow."""
        sizes, world_size = sizes.tolist(), self.sampler.world_size
        if len(sizes) < world_size:
            raise ValueError(
                f'{len(sizes)} samples are too few for {world_size} processes, each of which needs '
                'one; use more data, fewer processes, or lower aspect_buckets'
            )

        def fits(rounds: int) -> bool:
            return self._deal(sizes, rounds * world_size) is not None

        fewest = max(-(-sum(sizes) // self.max_queries), -(-len(sizes) // self.batch_size), 1)
        low, high = -(-fewest // world_size), len(sizes) // world_size
        step = 1  # the bound is nearly always reached: look near it first
        while low + step < high and not fits(low + step):
            step *= 2
        candidates = range(low, min(low + step, high) + 1)
        best = bisect_left(candidates, True, key=fits)
        if best == len(candidates):
            raise ValueError(
                f'{len(sizes)} samples cannot give each of {world_size} processes as many batches '
                f'of at most {self.batch_size} images and {self.max_queries} queries; raise '
                'batch_size or max_queries, or lower aspect_buckets'
            )
        return np.array(self._deal(sizes, candidates[best] * world_size))

    def _deal(self, sizes: list[int], num_batches: int) -> list[int] | None:
        """Give each size to the batch with the fewest queries; None if a batch gets too many."""
        free = [(0, batch, 0) for batch in range(num_batches)]  # queries, batch, images
        plan = []
        for size in sizes:
            queries, batch, images = heapq.heappop(free)
            if queries + size > self.max_queries:
                return None
            plan.append(batch)
            if images + 1 < self.batch_size:
                heapq.heappush(free, (queries + size, batch, images + 1))
        return plan
