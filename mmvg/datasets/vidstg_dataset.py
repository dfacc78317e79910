import json
import os.path as osp
from collections.abc import Iterator, Sequence

import numpy as np
from mmdet.registry import DATASETS

from .record_checks import malformed
from .video_annotation_files import find_files, locate_videos, read_json, sentence_text
from .video_grounding_dataset import VideoGroundingDataset

_SENTENCES = dict(declarative='captions', interrogative='questions')
_FROM = 'github.com/Guaranteer/VidSTG-Dataset, folder annotations'


@DATASETS.register_module()
class VidSTGDataset(VideoGroundingDataset):
    """VidSTG: sentences about pairs of objects in the videos of VidOR (spec 2.1).

    One sample is one record of the sentence file: a caption (declarative) and 0 to 2 questions
    (interrogative) about one segment. Boxes are not in that file but in VidOR's, one json per
    video; these, the events, targets and annotated relations are read with the truth only.

    The file counts the last frame of a segment in and the end of an event out; here both ends are
    exclusive. Videos and box files may lie in folders below those of ``data_prefix``, as the
    numbered ones of VidOR. A video may also be a folder of its frames, named by its id.

    Example::

        dict(type='VidSTGDataset', data_root='data/vidstg', ann_file='val_annotations.json',
             data_prefix=dict(video='vidor/video', annotation='vidor/annotation'), test_mode=True)

    Args:
        ann_file (str): ``train_annotations.json``, ``val_annotations.json``, ...
        video_list (str, optional): A json list of video ids; records of other videos are left out
            and counted in the log.
        sentence_types (Sequence[str]): Which sentences are read: ``'declarative'``,
            ``'interrogative'`` or both. Records without any are left out and counted.
        lower_case (bool): Lower the case of every sentence.
        data_prefix (dict): ``video`` and, with the truth, ``annotation``: folders.
        **kwargs: As of :class:`VideoGroundingDataset`; ``max_queries=1`` makes every sentence a
            sample of its own.

    Raises:
        FileNotFoundError: If a file is absent; the message says where it comes from.
        ValueError: If a file is not what it should be. Errors of one record follow ``invalid``.
    """

    def __init__(
        self,
        ann_file: str,
        video_list: str | None = None,
        sentence_types: Sequence[str] = ('declarative', 'interrogative'),
        lower_case: bool = True,
        **kwargs,
    ) -> None:
        if not sentence_types or set(sentence_types) - set(_SENTENCES):
            raise ValueError(
                "sentence_types must be one or both of 'declarative' and 'interrogative', got "
                f'{sentence_types!r}'
            )
        self.video_list = video_list
        self.sentence_types = tuple(t for t in _SENTENCES if t in sentence_types)
        self.lower_case = lower_case
        super().__init__(ann_file, **kwargs)

    def load_data_list(self) -> Iterator[dict]:
        """One record per entry of the file, in its order."""
        entries = read_json(
            self.ann_file, list, 'train_annotations.json or its like of VidSTG (a list)', _FROM
        )
        listed = self._listed_videos()
        ids = {e['vid'] for e in entries if isinstance(e, dict) and isinstance(e.get('vid'), str)}
        videos = locate_videos(self.video_dir, ids)
        tracks = _Tracks(self._annotation_dir, ids) if self.with_truth else None
        for number, entry in enumerate(entries):
            source = f'{self.ann_file}: record {number}'
            try:
                if listed is not None and entry['vid'] not in listed:
                    self.remarks['records of videos that are not listed left out'] += 1
                    continue
                record = self._record(entry, number, videos)
                if not record['queries']:
                    types = ' or '.join(self.sentence_types)
                    self.remarks[f'records without a sentence that is {types} left out'] += 1
                    continue
                if tracks is not None:
                    record['tubes'] = self._tubes(entry, record, tracks)
            except (AttributeError, KeyError, TypeError, ValueError) as e:
                yield malformed(source, e)
            else:
                yield dict(record, source=source)

    def _listed_videos(self) -> set[str] | None:
        if self.video_list is None:
            return None
        path = osp.join(self.data_root or '', self.video_list)
        return set(read_json(path, list, 'val_files.json or its like of VidSTG (a list)', _FROM))

    @property
    def _annotation_dir(self) -> str:
        folder = self.data_prefix.get('annotation', self.data_root or '')
        if not osp.isdir(folder or '.'):
            raise FileNotFoundError(
                f'{folder} does not exist. It should be the folder of the box files of VidOR (one '
                'VIDEO.json per video, in numbered folders or not); get it from the VidOR page, '
                'xdshang.github.io/docs/vidor.html, correct data_prefix["annotation"], or set '
                'with_truth=False to predict only'
            )
        return folder

    def _record(self, entry: dict, number: int, videos: dict[str, str]) -> dict:
        video_id, segment = entry['vid'], entry['used_segment']
        if not isinstance(video_id, str):
            raise ValueError(f'"vid" is {video_id!r}, which is not text')
        queries = [
            (f'{number}_{kind[0]}{i}', kind, sentence['description'])
            for kind in self.sentence_types
            for i, sentence in enumerate(entry[_SENTENCES[kind]])
        ]
        return dict(
            video_id=video_id,
            video_path=videos[video_id],
            fps=float(entry['fps']),
            num_frames=entry['frame_count'],
            width=entry['width'],
            height=entry['height'],
            segment=(segment['begin_fid'], segment['end_fid'] + 1),  # the file's end is inclusive
            queries=[sentence_text(text, self.lower_case) for _, _, text in queries],
            query_ids=[query_id for query_id, _, _ in queries],
            query_types=[kind for _, kind, _ in queries],
        )

    def _tubes(self, entry: dict, record: dict, tracks: '_Tracks') -> list[dict]:
        begin, end = entry['temporal_gt']['begin_fid'], entry['temporal_gt']['end_fid']
        if not 0 <= begin < end <= record['num_frames']:
            raise ValueError(
                f'the event is frames {begin} to {end} (exclusive) of {record["num_frames"]}'
            )
        targets = [
            sentence['target_id']
            for kind in self.sentence_types
            for sentence in entry[_SENTENCES[kind]]
        ]
        boxes = {t: tracks.boxes(entry['vid'], t, begin, end) for t in set(targets)}
        size = record['width'], record['height']
        cleaned = {target: self.clean_boxes(b, *size) for target, b in boxes.items()}
        return [dict(span=(begin, end), bboxes=cleaned[target]) for target in targets]


class _Tracks:
    """Boxes of the objects of VidOR videos, each file read once."""

    def __init__(self, folder: str, video_ids: set[str]) -> None:
        self._folder = folder
        self._files = find_files(folder, video_ids, ('.json',))
        self._videos: dict[str, dict[int, np.ndarray]] = {}

    def boxes(self, video_id: str, target: int, begin: int, end: int) -> np.ndarray:
        """(end - begin) x 4 float32 xyxy; nan in frames where the target has no box."""
        if video_id not in self._files:
            raise ValueError(
                f'there is no {video_id}.json in {self._folder} or below, which has its boxes'
            )
        if video_id not in self._videos:
            self._videos[video_id] = self._read(self._files[video_id])
        objects = self._videos[video_id]
        if target not in objects:
            raise ValueError(f'{self._files[video_id]} has no box of target {target}')
        if len(objects[target]) < end:
            raise ValueError(
                f'{self._files[video_id]} has {len(objects[target])} frames, too few for an event '
                f'that ends at {end}'
            )
        return objects[target][begin:end]

    @staticmethod
    def _read(path: str) -> dict[int, np.ndarray]:
        try:
            with open(path, encoding='utf-8') as f:
                frames = json.load(f)['trajectories']
            objects: dict[int, np.ndarray] = {}
            for number, frame in enumerate(frames):
                for item in frame:
                    if item['tid'] not in objects:
                        objects[item['tid']] = np.full((len(frames), 4), np.nan, np.float32)
                    box = item['bbox']
                    objects[item['tid']][number] = [
                        box[side] for side in ('xmin', 'ymin', 'xmax', 'ymax')
                    ]
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f'{path} is not a box file of VidOR ({e!r})') from e
        return objects
