import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SampleFrames(BaseTransform):
    """Choose frames of the input segment (spec 2.4); never looks at the annotated event.

    ================================================================  ==============================
    Published sampling                                                Arguments
    ================================================================  ==============================
    STCAT, CG-STVG, TA-STVG on VidSTG: training 64, test 128 frames   ``num_frames=64`` or ``128``
    TubeDETR on VidSTG and HC-STVG                                    ``protocol='fps'``
    STCAT on HC-STVG: training 3.2 fps, test 6.4 fps                  ``protocol='fps', fps=3.2,
                                                                      last_frame='always'``
    CoSPaL                                                            ``num_frames=32``
    ================================================================  ==============================

    Args:
        protocol (str): ``'uniform'``: ``num_frames`` at equal distances, from the first frame of
            the segment to the last. ``'fps'``: from the first frame on, each frame at which a clock
            of ``fps`` ticks that starts with the video; all frames of slower videos.
        num_frames (int): Of ``'uniform'``; a shorter segment gives all its frames.
        fps (float): Of ``'fps'``, frames per second.
        max_frames (int): Of ``'fps'``: of n > max_frames frames those at j * n // max_frames stay.
        last_frame (str): Of ``'fps'``. ``'never'``: the last frame of the segment is no candidate,
            as in TubeDETR, which takes the last id for the end of a range. ``'due'``: it is one
            like the others. ``'always'``: it is added, after ``max_frames`` has been applied.
    """

    def __init__(
        self,
        protocol: str = 'uniform',
        num_frames: int = 64,
        fps: float = 5.0,
        max_frames: int = 200,
        last_frame: str = 'never',
    ) -> None:
        if protocol not in ('uniform', 'fps'):
            raise ValueError(f"protocol must be 'uniform' or 'fps', got {protocol!r}")
        if last_frame not in ('never', 'due', 'always'):
            raise ValueError(f"last_frame must be 'never', 'due' or 'always', got {last_frame!r}")
        if min(num_frames, max_frames) < 1 or fps <= 0:
            raise ValueError(
                'num_frames and max_frames must be 1 or more and fps above 0, got '
                f'{num_frames}, {max_frames} and {fps}'
            )
        self.protocol = protocol
        self.num_frames = num_frames
        self.fps = fps
        self.max_frames = max_frames
        self.last_frame = last_frame

    def transform(self, results: dict) -> dict:
        """Set frame_ids: int64, strictly ascending, all in [begin, end) of ``segment``."""
        begin, end = results['segment']
        if self.protocol == 'uniform':
            count = min(self.num_frames, end - begin)
            frame_ids = np.linspace(begin, end - 1, count).round().astype(np.int64)
        else:
            frame_ids = self._at_rate(begin, end, results['fps'])
        results['frame_ids'] = frame_ids
        return results

    def _at_rate(self, begin: int, end: int, video_fps: float) -> np.ndarray:
        last = end - 1
        candidates = np.arange(begin, end if self.last_frame == 'due' else max(last, begin + 1))
        ticks = np.floor(candidates * min(self.fps / video_fps, 1.0))
        frame_ids = candidates[np.diff(ticks, prepend=-1) > 0]
        count = len(frame_ids)
        if count > self.max_frames:
            frame_ids = frame_ids[np.arange(self.max_frames) * count // self.max_frames]
        if self.last_frame == 'always' and frame_ids[-1] != last:
            frame_ids = np.append(frame_ids, last)
        return frame_ids.astype(np.int64)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(protocol={self.protocol!r}, num_frames={self.num_frames}, '
            f'fps={self.fps}, max_frames={self.max_frames}, last_frame={self.last_frame!r})'
        )
