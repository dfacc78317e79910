"""Detections and features of the sampled frames of videos, found once (VCMA; spec vcma 1.4).

The folder is that of a proposal file (:mod:`mmvg.datasets.proposal_file`) with one entry per frame,
``VIDEO/FRAME``. The last row of an entry, score and label -1, is the whole frame.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..structures.regions import Regions
from .proposal_file import ProposalFile
from .proposal_writer import ProposalWriter


class VideoRegions(ProposalFile):
    """Read a file made by ``tools/analysis_tools/extract_video_regions.py``.

    Copies and pickles of the object open the file anew.

    Args:
        path (str | Path): The folder.

    Raises:
        FileNotFoundError, ValueError: See the parent.
    """

    KIND = 'video region file'
    FORMAT = 'mmvg video regions 1'
    COMMAND = (
        'tools/analysis_tools/extract_video_regions.py DETECTOR-CONFIG CHECKPOINT DATASET-CONFIG '
        '--out {}'
    )

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        if len(self) and self._features is None:
            self._fail('has no features')

    def get(self, video_id: str, frame_ids: Sequence[int]) -> list[Regions]:
        """Regions of some frames of a video, in the order of ``frame_ids``.

        Raises:
            ValueError: If a frame is not there.
        """
        starts, counts = self.find_frames(video_id, frame_ids)
        rows = _ranges(starts, counts)
        # What was written together lies together: then one piece of the file holds it all.
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            rows = slice(rows[0], rows[-1] + 1)
        boxes, features = self._boxes[rows], self._features[rows].astype(np.float32)
        bboxes, scores = np.array(boxes['bbox']), np.array(boxes['score'])
        labels = boxes['label'].astype(np.int64)
        regions, begin = [], 0
        for count in counts.tolist():
            found, whole = slice(begin, begin + count - 1), begin + count - 1
            width, height = bboxes[whole, 2:].tolist()
            regions.append(
                Regions(
                    bboxes[found],
                    scores[found],
                    labels[found],
                    features[found],
                    features[whole],
                    (int(height), int(width)),
                )
            )
            begin += count
        return regions

    def find_frames(self, video_id: str, frame_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """First row and number of rows of each frame.

        Raises:
            ValueError: If a frame is not there.
        """
        keys = [frame_key(video_id, i).encode() for i in frame_ids]
        # Of the type of the array, or numpy would convert the array; longer keys are cut here.
        rows = np.searchsorted(self._keys, np.array(keys, dtype=self._keys.dtype))
        known = self._keys[np.minimum(rows, max(len(self) - 1, 0))].tolist() if len(self) else []
        lacking = [i for i, key in enumerate(keys) if not known or known[i] != key]
        if lacking:
            raise ValueError(
                f'{self.KIND} {self.path} has not frame {frame_ids[lacking[0]]} of video '
                f'{video_id!r}, nor {len(lacking) - 1} others of the {len(keys)} that are wanted; '
                f'add the frames that this config samples with {self.COMMAND.format(self.path)} '
                '(it keeps those that are there)'
            )
        found = self._index[rows]
        return found['start'], found['count']


class VideoRegionWriter(ProposalWriter):
    """Write a :class:`VideoRegions` frame by frame; a killed run goes on where it was.

    Args:
        path, meta, commit_every: See the parent.
        dtype (str): Of the features: ``'float16'`` or ``'float32'``.
    """

    READER = VideoRegions

    def __init__(
        self, path: str | Path, meta: dict, commit_every: int = 64, dtype: str = 'float32'
    ) -> None:
        super().__init__(path, {**meta, 'features': dtype}, commit_every)
        self.dtype = dtype

    def add_frame(self, video_id: str, frame_id: int, regions: Regions) -> None:
        """Append the regions of a frame.

        Raises:
            ValueError: If the frame is there already, or an array is not as it must be.
        """
        height, width = regions.size
        features = np.concatenate([regions.features, regions.frame_feature[None]])
        with np.errstate(over='ignore'):
            features = features.astype(self.dtype)
        if not np.isfinite(features).all():
            raise ValueError(
                f'{self.path}: features of frame {frame_id} of video {video_id!r} are not finite '
                f'as {self.dtype}; look at the weights of the detector'
            )
        self.add(
            frame_key(video_id, frame_id),
            np.concatenate([regions.bboxes, np.array([[0, 0, width, height]], np.float32)]),
            np.append(regions.scores, np.float32(-1)),
            np.append(regions.labels, -1),
            regions.size,
            features,
        )


def frame_key(video_id: str, frame_id: int) -> str:
    """What a frame goes by in the file."""
    return f'{video_id}/{frame_id}'


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers start ... start + count - 1 of all of them, one after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())
