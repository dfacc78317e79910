from collections.abc import Iterator

import numpy as np
from mmdet.registry import DATASETS

from .record_checks import malformed
from .video_annotation_files import locate_videos, read_json, sentence_text
from .video_grounding_dataset import VideoGroundingDataset


@DATASETS.register_module()
class HCSTVGDataset(VideoGroundingDataset):
    """HC-STVG, versions 1 and 2: sentences about what a person does in 20 seconds (spec 2.2).

    One sample is one video with one sentence; the segment is the whole video. Both forms of the
    annotation are told apart record by record: version 1 has ``caption``, ``width`` and ``height``,
    version 2 ``English`` and ``img_size``. ``st_frame`` of the file, its number of the first box,
    counts from 1; the event has as many frames as there are boxes. It and the boxes are read with
    the truth only. Boxes are cut at the border of the frame; those with a width or height of 0 or
    less become frames without a box. Both are counted in the log.

    A few of the published videos are broken: ``check_videos=True, invalid='skip'`` leaves those
    out, with a count.

    Example::

        dict(type='HCSTVGDataset', data_root='data/hc-stvg', ann_file='test.json',
             data_prefix=dict(video='video'), test_mode=True)

    Args:
        ann_file (str): ``train.json``, ``test.json``, ``train_v2.json`` or ``val_v2.json``.
        lower_case (bool): Lower the case of every sentence.
        duration (float): Of every video, in s: frames per second are ``img_num / duration``.
        **kwargs: As of :class:`VideoGroundingDataset`.

    Raises:
        FileNotFoundError: If the file is absent; the message says where it comes from.
        ValueError: If it is not what it should be. Errors of one record follow ``invalid``.
    """

    def __init__(
        self, ann_file: str, lower_case: bool = True, duration: float = 20.0, **kwargs
    ) -> None:
        self.lower_case = lower_case
        self.duration = duration
        super().__init__(ann_file, **kwargs)

    def load_data_list(self) -> Iterator[dict]:
        """One record per video, in the order of the file."""
        entries = read_json(
            self.ann_file,
            dict,
            'train.json, test.json or val_v2.json of HC-STVG (an object with one entry per video)',
            'github.com/tzhhhh123/HC-STVG',
        )
        videos = locate_videos(self.video_dir, entries)
        for name, entry in entries.items():
            source = f'{self.ann_file}: record {name!r}'
            try:
                record = self._record(name, entry, videos[name])
                if self.with_truth:
                    record['tubes'] = [self._tube(entry, record)]
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
                yield malformed(source, e)
            else:
                yield dict(record, source=source)

    def _record(self, name: str, entry: dict, path: str) -> dict:
        second = 'English' in entry
        height, width = entry['img_size'][:2] if second else (entry['height'], entry['width'])
        return dict(
            video_id=name,
            video_path=path,
            fps=entry['img_num'] / self.duration,
            num_frames=entry['img_num'],
            width=width,
            height=height,
            segment=(0, entry['img_num']),
            queries=[sentence_text(entry['English' if second else 'caption'], self.lower_case)],
            query_ids=[name],
            query_types=['declarative'],
        )

    def _tube(self, entry: dict, record: dict) -> dict:
        begin = entry['st_frame'] - 1
        boxes = np.array(entry['bbox'], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes = self.clean_boxes(boxes, record['width'], record['height'])
        return dict(span=(begin, begin + len(boxes)), bboxes=boxes)
