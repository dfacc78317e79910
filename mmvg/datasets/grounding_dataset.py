import math
import os.path as osp
import random
from collections import Counter, OrderedDict
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from PIL import Image


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


class GroundingDataset(BaseDataset):
    """Base of all image grounding datasets: one sample is one image with K >= 1 queries.

    Subclasses implement :meth:`load_data_list`, which returns one record per sample::

        dict(img_path=str, img_id=..., queries=[str] * K, bboxes=[[x1, y1, x2, y2]] * K,
             height=int, width=int, query_ids=[...] * K, query_types=[str] * K, source=str)

    Boxes are in pixels of the original image. ``height``, ``width``, ``query_ids`` and
    ``query_types`` are optional; ``source`` says which file and entry the record came from and
    appears in every error.

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

    def filter_data(self) -> list[dict]:
        """Check every record, apply the policy for bad ones, and group by image if asked to."""
        kept, problems = [], Counter()
        first = {}
        for record in self.data_list:
            problem = self.check_record(self._with_size(record))
            if problem is None:
                kept.append(record)
                continue
            if self.invalid == 'error':
                raise ValueError(
                    f'{record.get("source", self.ann_file)}: {problem}; correct the record, or set '
                    f"invalid='skip' in the dataset config to leave such records out"
                )
            kind = problem.split(':')[0]
            problems[kind] += 1
            first.setdefault(kind, f'{record.get("source", self.ann_file)}: {problem}')
        for kind, count in problems.items():
            MMLogger.get_current_instance().warning(
                f'{type(self).__name__} {self.name or self.ann_file}: left out {count} of '
                f'{len(self.data_list)} records ({kind}); first: {first[kind]}'
            )
        if not kept:
            raise ValueError(
                f'{type(self).__name__}: no usable record in {self.ann_file or "the data set"}'
            )
        self._sizes.clear()  # of no use in the workers
        return self._group(kept) if self.group_by_image else kept

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

    @staticmethod
    def check_record(record: dict) -> str | None:
        """What is wrong with a record, as ``'kind: detail'``; None for a good one."""
        if not record['queries']:
            return 'no query: a sample needs at least one'
        for i, query in enumerate(record['queries']):
            if not isinstance(query, str) or not query.strip():
                return f'empty query: query {i} is {query!r}'
        bboxes = record.get('bboxes')
        if bboxes is None:
            return None
        if len(bboxes) != len(record['queries']):
            return f'box count: {len(record["queries"])} queries but {len(bboxes)} boxes'
        width, height = record.get('width'), record.get('height')
        for i, (x1, y1, x2, y2) in enumerate(bboxes):
            box = f'box {i} is {[x1, y1, x2, y2]} (x1, y1, x2, y2)'
            if not all(math.isfinite(v) for v in (x1, y1, x2, y2)):
                return f'non-finite box: {box}'
            if x2 <= x1 or y2 <= y1:
                return f'zero-size box: {box}'
            if width and height and (x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height):
                return f'box outside the image: {box}, the image is {width} x {height}'
        return None

    def _group(self, records: list[dict]) -> list[dict]:
        """Merge the records of each image, in the order of first appearance."""
        groups = OrderedDict()
        for record in records:
            groups.setdefault(record['img_path'], []).append(record)
        keys = ('queries', 'bboxes', 'query_ids', 'query_types')
        merged = []
        for group in groups.values():
            common = {k: v for k, v in group[0].items() if k not in keys}
            common['source'] = ', '.join(dict.fromkeys(str(r.get('source')) for r in group))
            # Types and ids are optional per record: None stands for a missing one.
            whole = {
                k: [v for r in group for v in r.get(k, [None] * len(r['queries']))]
                for k in keys
                if any(k in r for r in group)
            }
            step = self.max_queries or len(whole['queries'])
            for start in range(0, len(whole['queries']), step):
                merged.append({**common, **{k: v[start : start + step] for k, v in whole.items()}})
        return merged

    def get_data_info(self, idx: int) -> dict:
        """The record of sample ``idx`` with the name of the data set."""
        info = super().get_data_info(idx)
        info['dataset_name'] = self.name
        return info
