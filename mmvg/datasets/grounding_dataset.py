import os.path as osp
import pickle
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from PIL import Image

from .record_checks import record_problem


@contextmanager
def _seeded(*key: int):
    """Seed the global generators that transforms draw from, and put them back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.default_generator.manual_seed(int(words[2]))  # leaves CUDA generators alone
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.random.set_rng_state(states[2])


# What a record holds once per query, and what belongs to the one sentence of all its queries.
_PER_QUERY = ('queries', 'bboxes', 'all_bboxes', 'query_ids', 'query_types')
_PER_SENTENCE = ('caption', 'sentence_id', 'query_spans')


class GroundingDataset(BaseDataset):
    """Base of all image grounding datasets: one sample is one image with K >= 1 queries.

    Subclasses implement :meth:`load_data_list`, which gives one record per sample::

        dict(img_path=str, img_id=..., queries=[str] * K, bboxes=[[x1, y1, x2, y2]] * K,
             height=int, width=int, query_ids=[...] * K, query_types=[str] * K, source=str,
             all_bboxes=[[[x1, y1, x2, y2], ...]] * K)

    Boxes are in pixels of the original image. ``height``, ``width``, ``query_ids``,
    ``query_types`` and ``all_bboxes`` (any of which is a right answer, for evaluation) are
    optional; ``source`` says which file and entry the record came from and appears in every error.
    ``dict(source=..., problem='kind: detail')`` stands for an entry that cannot be a record.

    Records may come as a list or from a generator. Each is checked and pickled into one array as it
    comes, so that a large index never exists as Python objects, and forked workers share it.

    Augmentation is a function of (seed, epoch, index): it does not depend on the number of workers
    or processes, and a resumed run draws what an unbroken run draws. :class:`EpochSeedHook` sets
    the epoch.

    Args:
        name (str): Prefix of this data set's figures in :class:`GroundingMetric`, e.g. ``'testA'``.
        group_by_image (bool): Merge the queries of an image into one sample, so that the image is
            decoded and encoded once for all of them. Off in the recipes that carry a paper's name.
        max_queries (int, optional): With ``group_by_image``: the largest K; larger groups are
            split.
        invalid (str): ``'error'`` raises on a bad record, ``'skip'`` leaves it out and logs how
            many.
        **kwargs: As of mmengine's ``BaseDataset``, but for ``filter_cfg``.

    Raises:
        ValueError: If an option has no meaning here, or a record is bad.
    """

    METAINFO = dict(classes=('object',))

    def __init__(
        self,
        *args,
        name: str = '',
        group_by_image: bool = False,
        max_queries: int | None = None,
        invalid: str = 'error',
        **kwargs,
    ) -> None:
        if invalid not in ('error', 'skip'):
            raise ValueError(f"invalid must be 'error' or 'skip', got {invalid!r}")
        if max_queries is not None and max_queries < 1:
            raise ValueError(f'max_queries must be 1 or more, or None, got {max_queries}')
        if kwargs.get('filter_cfg'):
            raise ValueError(
                f'{type(self).__name__} has no use for filter_cfg: samples without a query or a '
                "good box are left out by invalid='skip'; remove filter_cfg from the dataset config"
            )
        self.name = name
        self.group_by_image = group_by_image
        self.max_queries = max_queries
        self.invalid = invalid
        # Shared memory: worker processes that live over several epochs see a new epoch here.
        self._seed_and_epoch = torch.tensor([0, -1]).share_memory_()
        self._sizes: dict[str, tuple] = {}
        super().__init__(*args, **kwargs)

    def set_epoch(self, seed: int, epoch: int) -> None:
        """Choose the random numbers of the augmentation of the coming epoch."""
        self._seed_and_epoch.share_memory_()  # a deep copy, e.g. in get_subset, is not shared
        self._seed_and_epoch[0] = seed
        self._seed_and_epoch[1] = epoch

    def prepare_data(self, idx: int):
        """Run the pipeline on sample ``idx``; in training with its own random numbers."""
        self._last_index = idx
        seed, epoch = self._seed_and_epoch.tolist()
        if self.test_mode or epoch < 0:  # nobody set an epoch: draw as any other data set does
            return super().prepare_data(idx)
        with _seeded(seed, epoch, idx):
            return super().prepare_data(idx)

    def _rand_another(self) -> int:
        """The next sample in place of one that its pipeline gave up: the same in every run."""
        return (self._last_index + 1) % len(self)

    def filter_data(self) -> Iterable[dict]:
        """Check every record, apply the policy for bad ones, and group by image if asked to."""
        records = self._good(self.data_list)
        if self.group_by_image:
            records = self._group(records)
        # A subset, or a data set without serialisation, is cut from a list.
        return records if self.serialize_data and self._indices is None else list(records)

    def _good(self, records: Iterable[dict]) -> Iterator[dict]:
        total, problems, first = 0, Counter(), {}
        for record in records:
            total += 1
            problem = self.check_record(self._with_size(record))
            if problem is None:
                yield record
                continue
            where = record.get('source', self.ann_file)
            if self.invalid == 'error':
                raise ValueError(
                    f'{where}: {problem}; correct the record, or set '
                    f"invalid='skip' in the dataset config to leave such records out"
                )
            kind = problem.split(':')[0]
            problems[kind] += 1
            first.setdefault(kind, f'{where}: {problem}')
        self._sizes.clear()  # of no use in the workers
        for kind, count in problems.items():
            MMLogger.get_current_instance().warning(
                f'{type(self).__name__} {self.name or self.ann_file}: left out {count} of '
                f'{total} records ({kind}); first: {first[kind]}'
            )
        if total == problems.total():
            raise ValueError(
                f'{type(self).__name__}: no usable record in {self.ann_file or "the data set"}'
            )

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        """Pickle the records one by one into one array; returns it and where each record ends.

        The parent's method needs all records as objects and as single arrays at the same time.
        """
        data, ends = bytearray(), array('q')
        for record in self.data_list:
            data += pickle.dumps(record, protocol=4)
            ends.append(len(data))
        self.data_list = []
        return np.frombuffer(data, np.uint8), np.frombuffer(ends, np.int64)

    def _with_size(self, record: dict) -> dict:
        """Where records may be skipped: read a missing image size from the file's header."""
        path = record.get('img_path')
        if self.invalid == 'error' or record.get('width') or not path or not osp.isfile(path):
            return record  # with 'error', loading the image tells just as well
        if path not in self._sizes:
            try:
                with Image.open(path) as image:
                    self._sizes[path] = image.size
            except OSError:
                self._sizes[path] = None, None  # broken: the loader names it
        width, height = self._sizes[path]
        return {**record, 'width': width, 'height': height}

    @property
    def image_dir(self) -> str:
        """Folder of the pictures: ``data_prefix['img']``."""
        return self.data_prefix.get('img', self.data_root or '')

    def check_record(self, record: dict) -> str | None:
        """What is wrong with a record, as ``'kind: detail'``; None for a good one."""
        return record_problem(record)

    def _group(self, records: Iterable[dict]) -> Iterator[dict]:
        """Merge the records of each image, in the order of first appearance."""
        groups: dict[str, list[bytes]] = {}  # as pickles: a fifth of the memory of the records
        for record in records:
            groups.setdefault(record['img_path'], []).append(pickle.dumps(record, protocol=4))
        for group in groups.values():
            yield from self._merge([pickle.loads(r) for r in group])

    def _merge(self, group: list[dict]) -> Iterator[dict]:
        """One record of all queries of an image, or several of ``max_queries`` at most."""
        # Word spans make sense beside their sentence only.
        keys = _PER_QUERY + (('query_spans',) if len(group) == 1 else ())
        dropped = keys + (_PER_SENTENCE if len(group) > 1 else ())
        common = {k: v for k, v in group[0].items() if k not in dropped}
        common['source'] = ', '.join(dict.fromkeys(str(r.get('source')) for r in group))
        # Types and ids are optional per record: None stands for a missing one.
        whole = {
            k: [v for r in group for v in r.get(k, [None] * len(r['queries']))]
            for k in keys
            if any(k in r for r in group)
        }
        step = self.max_queries or len(whole['queries'])
        for start in range(0, len(whole['queries']), step):
            yield {**common, **{k: v[start : start + step] for k, v in whole.items()}}

    def get_data_info(self, idx: int) -> dict:
        """The record of sample ``idx`` with the name of the data set."""
        info = super().get_data_info(idx)
        info['dataset_name'] = self.name
        return info
