import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from ..video_reader import VideoReader


@TRANSFORMS.register_module()
class LoadVideoFrames(BaseTransform):
    """Decode the sampled frames of a video file or of a folder of frames.

    Records that carry ``video``, an object whose ``frame(i)`` draws frame i (generated data), need
    no file.

    Args:
        missing (str): What to do about frames that cannot be decoded, as in
            :meth:`VideoReader.read`: ``'repeat'`` the last good one with one warning per file, or
            ``'error'``.
        autorotate (bool): As of :class:`VideoReader`.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If nothing of it can be decoded, or its frames have not the annotated size.
    """

    def __init__(self, missing: str = 'repeat', autorotate: bool = True) -> None:
        if missing not in ('repeat', 'error'):
            raise ValueError(f"missing must be 'repeat' or 'error', got {missing!r}")
        self.missing = missing
        self.autorotate = autorotate

    def transform(self, results: dict) -> dict:
        """Set frames, a list of H x W x 3 BGR uint8, and img_shape, ori_shape (height, width)."""
        record = f'{results["source"]}: ' if results.get('source') else ''
        try:
            results['frames'] = frames = self._read(results)
        except FileNotFoundError as e:
            raise FileNotFoundError(f'{record}{e}') from e
        except ValueError as e:
            raise ValueError(f'{record}{e}') from e
        size = frames[0].shape[:2]
        annotated = results.get('height'), results.get('width')
        if None not in annotated and annotated != size:
            raise ValueError(
                f'{record}the frames of {results.get("video_path", "video")} are {size[1]} x '
                f'{size[0]} but the annotation says {annotated[1]} x {annotated[0]}, so its boxes '
                'belong to another version of the video; use the original file (a film of an '
                'upright camera: autorotate=False)'
            )
        results['img_shape'] = results['ori_shape'] = size
        return results

    def _read(self, results: dict) -> list[np.ndarray]:
        frame_ids = results['frame_ids']
        if results.get('video') is not None:
            return [results['video'].frame(int(i)) for i in frame_ids]
        path, fps = results['video_path'], results.get('fps')
        with VideoReader(path, fps, self.autorotate) as video:
            return video.read(frame_ids, self.missing)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f'{name}(missing={self.missing!r}, autorotate={self.autorotate})'
