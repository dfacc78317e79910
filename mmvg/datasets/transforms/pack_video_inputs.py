from collections.abc import Iterator

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from torch import Tensor

_META_KEYS = (
    'video_id', 'video_path', 'segment', 'frame_ids', 'fps', 'height', 'width', 'queries', 'query_ids',
    'query_types', 'parsed', 'dataset_name', 'source', 'tubes',
)  # fmt: skip


class HostFrames:
    """Decoded frames of a video, each given as uint8 3 x H x W without a copy.

    They may be gigabytes, and are only looked at one after the other, on the host. So collating does not
    stack them and a data preprocessor does not move them, as they do with a sequence or a tensor.

    Args:
        frames (list[ndarray]): H x W x 3 uint8.
    """

    def __init__(self, frames: list[np.ndarray]) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._frames[index])).permute(2, 0, 1)

    def __iter__(self) -> Iterator[Tensor]:
        return map(self.__getitem__, range(len(self)))


@TRANSFORMS.register_module()
class PackVideoInputs(BaseTransform):
    """Pack a video segment and its sentences for :class:`VCMA`.

    ``inputs`` is what :class:`LoadTubes` found (``tube_feats``, ``tube_boxes``, ``frame_feats``), or,
    without it, ``frames``, :class:`HostFrames`. The truth, where the data set gives any, is ``tubes``
    of the metainfo, which evaluation reads and nothing else.
    """

    def transform(self, results: dict) -> dict:
        """Give inputs and data_samples."""
        sample = DetDataSample()
        meta = {k: results[k] for k in _META_KEYS if k in results}
        found = results.get('tubes_found')
        if found is None:
            inputs = dict(frames=HostFrames(results['frames']))
        else:
            inputs = {k: torch.from_numpy(v) for k, v in found.items() if k != 'bboxes'}
            meta['tube_bboxes'] = found['bboxes']
        sample.set_metainfo(meta)
        return dict(inputs=inputs, data_samples=sample)
