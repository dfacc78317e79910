"""Frames with their times as an mp4 file."""

from fractions import Fraction
from types import TracebackType

import numpy as np

from mmvg.datasets.video_file import import_av

_CODECS = ('libx264', 'mpeg4')  # the first that this PyAV can write
_TICKS = 60_000  # per s; MPEG-4 can count no more than 65535


class ClipWriter:
    """Writes an mp4 file frame by frame, at any times.

    Args:
        path (str): The file.
        size (tuple): Width and height of the frames in px, even.
        fps (float): About.

    Raises:
        ImportError: If PyAV is not installed.
    """

    def __init__(self, path: str, size: tuple[int, int], fps: float) -> None:
        self._av = import_av()
        codec = next(c for c in _CODECS if c in self._av.codecs_available)
        self._container = self._av.open(path, 'w')
        self._stream = self._container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = 'yuv420p'
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        if codec == 'libx264':
            self._stream.options = dict(crf='20', preset='veryfast')

    def add(self, picture: np.ndarray, time: float) -> None:
        """Append a picture (height x width x 3 uint8 RGB) that is shown from ``time`` (s) on."""
        frame = self._av.VideoFrame.from_ndarray(picture, format='rgb24')
        frame.pts, frame.time_base = round(time * _TICKS), Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> 'ClipWriter':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
