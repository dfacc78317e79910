import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TASK_UTILS, TRANSFORMS

from ...structures.tubes import describe_tubes
from ..video_regions import VideoRegions


@TRANSFORMS.register_module()
class LoadTubes(BaseTransform):
    """Link a video's detections, made beforehand, into tubes, and pool their features over clips.

    Required keys: video_id, segment, frame_ids, height, width. Sets ``tubes_found``, see
    :func:`describe_tubes`.

    Args:
        region_file (str): Made by ``tools/analysis_tools/extract_video_regions.py``.
        linker (dict, optional): See :class:`TubeLinker`.
        num_clips (int): T, at most; a video of fewer frames has one clip per frame.
        keep (bool): Keep the tubes of every video in memory, as nothing about them is random. Each
            worker keeps its own.
    """

    def __init__(
        self,
        region_file: str,
        linker: dict | None = None,
        num_clips: int = 32,
        keep: bool = False,
    ) -> None:
        self.regions = VideoRegions(region_file)
        self.linker = TASK_UTILS.build(dict(dict(type='TubeLinker'), **(linker or {})))
        self.num_clips = num_clips
        self.kept = {} if keep else None

    def transform(self, results: dict) -> dict:
        """Set tubes_found."""
        key = results['video_id'], tuple(results['frame_ids'])
        tubes = self.kept.get(key) if self.kept is not None else None
        if tubes is None:
            tubes = self._load(results)
            if self.kept is not None:
                self.kept[key] = tubes
        results['tubes_found'] = tubes
        return results

    def _load(self, results: dict) -> dict[str, np.ndarray]:
        size = results['height'], results['width']
        found = self.regions.get(results['video_id'], results['frame_ids'])
        bboxes, scores, features, frames = ([r[i] for r in found] for i in (0, 1, 3, 4))
        linked = self.linker(bboxes, size, features, scores)
        return describe_tubes(linked, features, frames, size, self.num_clips)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(region_file={self.regions.path!r}, '
            f'linker={vars(self.linker)}, num_clips={self.num_clips})'
        )
