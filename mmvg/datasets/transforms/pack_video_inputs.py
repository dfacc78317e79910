import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample

_META_KEYS = (
    'video_id', 'video_path', 'segment', 'frame_ids', 'fps', 'height', 'width', 'queries', 'query_ids',
    'query_types', 'parsed', 'dataset_name', 'source', 'tubes',
)  # fmt: skip


@TRANSFORMS.register_module()
class PackVideoInputs(BaseTransform):
    """Pack a video segment and its sentences for :class:`VCMA`.

    ``inputs`` is what :class:`LoadTubes` found (``tube_feats``, ``tube_boxes``, ``frame_feats``), or,
    without it, ``frames``, uint8 F x 3 x H x W. The truth, where the data set gives any, is
    ``tubes`` of the metainfo, which evaluation reads and nothing else.
    """

    def transform(self, results: dict) -> dict:
        """Give inputs and data_samples."""
        sample = DetDataSample()
        meta = {k: results[k] for k in _META_KEYS if k in results}
        found = results.get('tubes_found')
        if found is None:
            frames = torch.from_numpy(np.stack(results['frames']))
            inputs = dict(frames=frames.permute(0, 3, 1, 2))  # a list would be collated by frames
        else:
            inputs = {k: torch.from_numpy(v) for k, v in found.items() if k != 'bboxes'}
            meta['tube_bboxes'] = found['bboxes']
        sample.set_metainfo(meta)
        return dict(inputs=inputs, data_samples=sample)
