from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

# Packets of these codecs may hold frames that are never shown, and these containers store no time
# of showing: what their packets say does not number the frames.
_HIDDEN_FRAMES = ('vp8',)
_UNSTAMPED = ('avi',)


def import_av() -> ModuleType:
    """PyAV, or an ImportError that says how to get it."""
    try:
        import av
    except ImportError as e:
        raise ImportError(
            'decoding a video file needs PyAV: pip install av; '
            'folders of frames are read without it'
        ) from e
    return av


class VideoFile:
    """Frames of a video file by number, which is their place in the order of showing.

    The packets of the file are listed once without decoding them. Their time stamps in ascending
    order number the frames, whatever the frame rate does and in whatever order the frames are
    stored; a decoded frame is recognised by its time stamp. So seeking cannot shift a number: it
    only saves decoding from the start. Where stamps are absent or do not say it (AVI, VP8), frames
    are counted from the start instead.

    Args:
        path (str): The file.
        autorotate (bool): Turn frames as players do, by the mark of cameras held upright.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no video, or none of its frames can be decoded.
    """

    def __init__(self, path: str, autorotate: bool = True) -> None:
        self.path = path
        self._autorotate = autorotate
        self._av = import_av()
        self._container: Any = None
        self._open()
        self._read_index()
        self._rewind()
        _, first = next(self.images([0]))
        self.height, self.width = first.shape[:2]

    def close(self) -> None:
        self._container.close()

    @cached_property
    def num_frames(self) -> int:
        """Frames that the file lists, or, where they must be counted, those that decode."""
        if self._ranks is not None:
            return len(self._ranks)
        self._open()
        count = sum(1 for _ in self._frames_from(0))
        self._rewind()
        return count

    @property
    def timestamps(self) -> np.ndarray:
        """When each frame is shown, in seconds after the first one (float64)."""
        if self._ranks is None:
            return np.arange(self.num_frames) / self.fps
        stamps = np.array(list(self._ranks))
        return (stamps - stamps[0]) * float(self._stream.time_base)

    @cached_property
    def fps(self) -> float:
        """Mean frames per second; 0 if the file does not tell (one frame, perhaps)."""
        listed = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        if self._ranks is None or len(self._ranks) < 2:
            return listed
        measured = (len(self._ranks) - 1) / self.timestamps[-1]
        # The header is more exact than stamps in ms, but plain wrong for variable rates.
        return listed if abs(listed / measured - 1) < 0.01 else float(measured)

    def images(self, frame_ids: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """For each of the ascending ids: the id of the frame that is given, and its picture.

        The two ids differ where a frame cannot be decoded: the last one before it that can, or,
        if there is none, the next one, stands in for it.
        """
        given, image = None, None
        for wanted in frame_ids:
            try:
                rank, frame = self._nearest(wanted)
            except _UnknownStampError:  # the decoder has other stamps than the file
                self._count_from_start()
                rank, frame = self._nearest(wanted)
            if rank != given:
                given, image = rank, self._image(frame)
            yield given, image

    # --- inside

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        try:
            self._container = self._av.open(self.path)
        except FileNotFoundError:
            raise
        except (self._av.FFmpegError, OSError) as e:
            raise ValueError(
                f'{self.path} cannot be opened as a video ({e}): it is empty, cut off or no '
                'video; copy or download it again'
            ) from e
        self._stream = self._container.streams.best('video')
        if self._stream is None:
            raise ValueError(
                f'{self.path} has no video stream, perhaps only sound; give the video itself'
            )

    def _read_index(self) -> None:
        packets = [
            (packet.pts, packet.dts, packet.is_keyframe)
            for packet in self._packets()
            if packet.size and not packet.is_discard
        ]
        stamps = [pts for pts, _, _ in packets]
        self._ranks: dict[int, int] | None = None
        self._keys, self._seek_to = [0], {}
        if (
            None in stamps
            or len(set(stamps)) < len(stamps)
            or self._stream.codec_context.name in _HIDDEN_FRAMES
            or self._container.format.name in _UNSTAMPED
        ):
            return
        self._ranks = {pts: rank for rank, pts in enumerate(sorted(stamps))}
        # Files are searched by decoding time, which some do not store.
        self._seek_to = {
            self._ranks[pts]: pts if dts is None else dts for pts, dts, key in packets if key
        }
        self._keys = sorted({0, *self._seek_to})

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._stream)
        except self._av.FFmpegError:
            return  # the rest is lost

    def _frames_from(self, key: int) -> Iterator[tuple[int, Any]]:
        """(number, frame) of all decodable frames from a key frame on, in the order of showing."""
        if key:
            try:
                self._container.seek(self._seek_to[key], stream=self._stream)
            except self._av.FFmpegError:
                return  # the caller goes back to an earlier one
        for count, frame in enumerate(self._decoded()):
            if self._ranks is None:
                yield count, frame
            elif frame.pts not in self._ranks:
                raise _UnknownStampError
            elif self._ranks[frame.pts] >= key:  # frames before it may lack their references
                yield self._ranks[frame.pts], frame

    def _decoded(self) -> Iterator[Any]:
        for packet in self._packets():
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                continue  # a damaged packet
            yield from (f for f in frames if not f.is_corrupt)

    def _nearest(self, wanted: int) -> tuple[int, Any]:
        cursor = self._cursor
        key = self._keys[bisect_right(self._keys, wanted) - 1]
        if cursor is None or cursor.rank > wanted or key > cursor.frontier:
            cursor = self._cursor_at(wanted)
        found = cursor.reach(wanted) or cursor.ahead
        if found is None:
            raise ValueError(
                f'none of the frames of {self.path} can be decoded; copy or download it again'
            )
        return found

    def _cursor_at(self, wanted: int) -> '_Cursor':
        """A cursor on the last decodable frame up to ``wanted``."""
        before = self._keys[: bisect_right(self._keys, wanted)]
        for key in reversed(before):
            if not key:
                self._open()  # seeking to the very start fails with some files
            self._cursor = _Cursor(self._frames_from(key), start=before[-1])
            if self._cursor.reach(wanted):
                break
        return self._cursor

    def _image(self, frame: Any) -> np.ndarray:
        image = frame.to_ndarray(format='bgr24')
        # Multiples of 90 degrees, counter-clockwise, as numpy counts.
        turns = round(frame.rotation / 90) % 4 if self._autorotate else 0
        return np.require(np.rot90(image, turns), requirements=('C', 'W'))

    def _count_from_start(self) -> None:
        self._ranks, self._keys, self._seek_to = None, [0], {}
        for cached in ('num_frames', 'fps'):
            self.__dict__.pop(cached, None)
        self._rewind()

    def _rewind(self) -> None:
        self._open()
        self._cursor: _Cursor | None = None


class _UnknownStampError(Exception):
    """A decoded frame has a time stamp that no packet has."""


class _Cursor:
    """Goes through decoded frames one way.

    Args:
        frames (Iterator): (number, frame), ascending.
        start (int): The key frame that was asked for; decoding may have begun at an earlier one.
    """

    def __init__(self, frames: Iterator[tuple[int, Any]], start: int = 0) -> None:
        self._frames = frames
        self._start = start
        self._current: tuple[int, Any] | None = None
        self.ahead = next(frames, None)

    @property
    def rank(self) -> int:
        return -1 if self._current is None else self._current[0]

    @property
    def frontier(self) -> int:
        """No key frame up to here is worth jumping to."""
        return max(self._start, self.rank if self.ahead is None else self.ahead[0])

    def reach(self, wanted: int) -> tuple[int, Any] | None:
        """Go on up to frame ``wanted``: the last frame that is not beyond it."""
        while self.ahead is not None and self.ahead[0] <= wanted:
            self._current, self.ahead = self.ahead, next(self._frames, None)
        return self._current
