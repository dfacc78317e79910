import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from mmengine.logging import MMLogger

from ..text.query_parser import has_word
from .grounding_dataset import GroundingDataset
from .record_checks import text_problem
from .transforms.load_tubes import LoadTubes
from .transforms.sample_frames import SampleFrames
from .video_reader import VideoReader

_PER_QUERY = ('queries', 'query_ids', 'query_types', 'tubes')


class VideoGroundingDataset(GroundingDataset):
    """Base of all video grounding datasets: one sample is one video segment with K >= 1 sentences.

    Subclasses implement :meth:`load_data_list`, which gives one record per sample::

        dict(video_id=str, video_path=str, fps=float, num_frames=int, width=int, height=int,
             segment=(begin, end), queries=[str] * K, query_ids=[...] * K,
             query_types=['declarative' or 'interrogative'] * K, source=str,
             tubes=[dict(span=(begin, end), bboxes=array)] * K)

    Frame ids are those of the video file, from 0; every interval is half-open. ``video_path`` is a
    file or a folder of frames. ``bboxes`` has a row x1, y1, x2, y2 (float32, px of the original
    frame) for each frame of the span; nan where the object has no box. ``source`` and ``problem``
    are those of :class:`GroundingDataset`, as are the random numbers of the augmentation.

    Learning here is from sentences alone. So ``tubes`` exists only where ``with_truth`` is set;
    readers then read spans, boxes, targets and annotated relations, and otherwise none of them.

    Where the pipeline has :class:`LoadTubes`, a record of which the region file lacks a sampled
    frame is a bad one: extraction leaves out videos that cannot be decoded.

    Args:
        name (str): Prefix of this data set's figures in the metric.
        invalid (str): ``'error'`` raises on a bad record, ``'skip'`` leaves it out and logs how
            many.
        max_queries (int, optional): Largest K; records of more sentences are split. 1 makes every
            sentence a sample of its own.
        with_truth (bool, optional): Read the truth, for evaluation; by default as ``test_mode``.
        check_videos (bool): Decode the first frame of every segment before anything else, so that
            absent and broken videos follow ``invalid``. Otherwise loading a sample tells, and an
            index can be read without any video.
        **kwargs: As of mmengine's ``BaseDataset``.

    Raises:
        ValueError: If ``group_by_image`` is set, which is for pictures.
    """

    def __init__(
        self,
        *args,
        name: str = '',
        invalid: str = 'error',
        max_queries: int | None = None,
        with_truth: bool | None = None,
        check_videos: bool = False,
        test_mode: bool = False,
        **kwargs,
    ) -> None:
        if kwargs.get('group_by_image'):
            raise ValueError(
                f'{type(self).__name__} has no use for group_by_image: the sentences of a record '
                'are one sample anyway, and max_queries splits them; remove it from the dataset '
                'config'
            )
        self.with_truth = test_mode if with_truth is None else with_truth
        self.check_videos = check_videos
        # What readers corrected or left out, for one line in the log.
        self.remarks: Counter[str] = Counter()
        self._video_problems: dict[tuple[str, int], str | None] = {}
        super().__init__(
            *args,
            name=name,
            invalid=invalid,
            max_queries=max_queries,
            test_mode=test_mode,
            **kwargs,
        )

    def filter_data(self) -> Iterable[dict]:
        """Check every record, apply the policy for bad ones, and split those of many sentences."""
        records = self._final_records(self.data_list)
        # A subset, or a data set without serialisation, is cut from a list.
        return records if self.serialize_data and self._indices is None else list(records)

    def _final_records(self, data_list: Iterable[dict]) -> Iterator[dict]:
        for record in self._good(data_list):
            yield from self._split(record)
        self._video_problems.clear()  # of no use in the workers
        if self.remarks:
            MMLogger.get_current_instance().info(
                f'{type(self).__name__} {self.name or self.ann_file}: '
                + ', '.join(f'{count} {what}' for what, count in sorted(self.remarks.items()))
            )

    def _split(self, record: dict) -> Iterator[dict]:
        count = len(record['queries'])
        step = self.max_queries or count
        for start in range(0, count, step):
            part = {k: record[k][start : start + step] for k in _PER_QUERY if k in record}
            yield {**record, **part}

    def _with_size(self, record: dict) -> dict:
        return record  # always annotated

    def check_record(self, record: dict) -> str | None:
        """What is wrong with a record, as ``'kind: detail'``; None for a good one."""
        if 'problem' in record:
            return record['problem']
        if ('tubes' in record) != self.with_truth:
            if not self.with_truth:
                raise ValueError(
                    f'{type(self).__name__}.load_data_list gave tubes although with_truth is off; '
                    'read the truth only if self.with_truth is set'
                )
            return 'no truth: there are no tubes to evaluate with (with_truth=False only predicts)'
        problem = _query_problem(record) or _segment_problem(record)
        if problem is None and self.with_truth:
            problem = _tube_problem(record)
        if problem is None and self.check_videos:
            problem = self._video_problem(record)
        return self._region_problem(record) if problem is None else problem

    def _video_problem(self, record: dict) -> str | None:
        key = record['video_path'], record['segment'][0]
        if key not in self._video_problems:
            try:
                with VideoReader(key[0], fps=record['fps']) as video:
                    video.read([key[1]], missing='error')
                self._video_problems[key] = None
            except FileNotFoundError as e:
                self._video_problems[key] = f'missing video: {e}'
            except ValueError as e:
                self._video_problems[key] = f'broken video: {e}'
        return self._video_problems[key]

    def _region_problem(self, record: dict) -> str | None:
        """Told at the start, not when training first meets the video."""
        load, sample = (
            next((step for step in self.pipeline.transforms if isinstance(step, kind)), None)
            for kind in (LoadTubes, SampleFrames)
        )
        if load is None or sample is None:
            return None
        try:
            load.regions.find_frames(record['video_id'], sample(dict(record))['frame_ids'])
        except ValueError as e:
            return f'no regions: {e}'
        return None

    # --- for readers

    @property
    def video_dir(self) -> str:
        """Folder of the videos: ``data_prefix['video']``."""
        return self.data_prefix.get('video', self.data_root or '')

    def clean_boxes(self, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
        """Cut boxes at the border of the frame; those without area then become nan.

        Args:
            boxes (ndarray): n x 4 xyxy, px; nan where there is none.
            width (int): Of the frame.
            height (int): Of the frame.

        Returns:
            n x 4 float32. What was changed is counted in ``remarks``.
        """
        boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        cut = boxes.clip(0, np.float32([width, height, width, height]))
        empty = ~((cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])) & ~np.isnan(boxes).all(1)
        shrunk = (cut != boxes).any(1) & ~np.isnan(boxes).any(1) & ~empty
        for what, rows in (
            ('boxes cut at the border of the frame', shrunk),
            ('boxes without area left out', empty),
        ):
            if rows.any():
                self.remarks[what] += int(rows.sum())
        cut[empty] = np.nan
        return cut


def _query_problem(record: dict) -> str | None:
    queries = record['queries']
    problem = text_problem(queries)
    if problem:
        return problem
    for i, query in enumerate(queries):
        if not has_word(query):
            return f'no word: query {i} is {query!r}, which does not say what is to be found'
    for key in ('query_ids', 'query_types'):
        if len(record[key]) != len(queries):
            return f'query count: {len(queries)} queries but {len(record[key])} {key}'
    return None


def _segment_problem(record: dict) -> str | None:
    for key in ('fps', 'num_frames', 'width', 'height'):
        value = record[key]
        if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            return f'bad {key}: {value!r}, but it must be a number above 0'
    begin, end = record['segment']
    if not all(isinstance(v, int) for v in (begin, end, record['num_frames'])):
        return (
            f'bad segment: frames {begin!r} to {end!r} of {record["num_frames"]!r} are not integers'
        )
    if not 0 <= begin < end <= record['num_frames']:
        return (
            f'segment outside the video: frames {begin} to {end} (exclusive) of '
            f'{record["num_frames"]}'
        )
    return None


def _tube_problem(record: dict) -> str | None:
    if len(record['tubes']) != len(record['queries']):
        return f'tube count: {len(record["queries"])} queries but {len(record["tubes"])} tubes'
    first, last = record['segment']
    for i, tube in enumerate(record['tubes']):
        begin, end = tube['span']
        if not first <= begin < end <= last:
            return (
                f'event outside the segment: that of query {i} is frames {begin} to {end} '
                f'(exclusive), the segment is {first} to {last}'
            )
        boxes = tube['bboxes']
        if boxes.shape != (end - begin, 4):
            return (
                f'box count: the event of query {i} has {end - begin} frames, its boxes are an '
                f'array of shape {boxes.shape}'
            )
        present = ~np.isnan(boxes).all(1)
        if not present.any():
            return f'no box: the target of query {i} has no box in frames {begin} to {end}'
        x1, y1, x2, y2 = boxes.T
        bad = present & ~(np.isfinite(boxes).all(1) & (x2 > x1) & (y2 > y1))
        if bad.any():
            frame = int(bad.argmax())
            return (
                f'bad box: that of query {i} in frame {begin + frame} is {boxes[frame].tolist()} '
                '(x1, y1, x2, y2)'
            )
    return None
