import os
import os.path as osp
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from mmengine.logging import MMLogger
from PIL import Image

from .video_file import VideoFile

_PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
# Files whose gaps this process has told of: readers come and go with every sample.
_REPORTED: set[str] = set()


class VideoReader:
    """Frames of a video file or of a folder of frames, by their number from 0.

    Files are decoded by PyAV, with exact numbers for variable frame rates and for reordered frames
    too (:class:`VideoFile`). A folder holds one picture per frame, numbered without gaps in their
    names (``0001.jpg``, ``img_00002.png``), from any number on.

    Args:
        path (str): The file or folder.
        fps (float, optional): Of a folder, which does not tell it, or of a file without it.
        autorotate (bool): Turn the frames of a file as players do, by the mark of cameras held
            upright.

    Attributes:
        num_frames (int): Frames in the file, counting those that turn out to be damaged.
        fps (float): Mean frames per second; 0 if unknown.
        width, height (int): Of the frames, in px.
        timestamps (ndarray): When each frame is shown, in s after the first.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If it is no video, is empty, or has no readable frame.
        ImportError: If a file is to be decoded and PyAV is not installed.
    """

    def __init__(self, path: str, fps: float | None = None, autorotate: bool = True) -> None:
        self.path = path
        if not osp.exists(path):
            raise FileNotFoundError(
                f'video {path} does not exist; put the file or the folder of frames there, or '
                "correct data_root or data_prefix['video'] in the dataset config"
            )
        self._source = _FrameFolder(path) if osp.isdir(path) else VideoFile(path, autorotate)
        self.fps = self._source.fps or fps or 0.0

    def __enter__(self) -> 'VideoReader':
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __len__(self) -> int:
        return self.num_frames

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    @property
    def num_frames(self) -> int:
        return self._source.num_frames

    @property
    def width(self) -> int:
        return self._source.width

    @property
    def height(self) -> int:
        return self._source.height

    @property
    def timestamps(self) -> np.ndarray:
        stamps = self._source.timestamps
        if stamps is not None:
            return stamps
        if not self.fps:
            raise ValueError(f'{self.path} has no time stamps; give fps')
        return np.arange(self.num_frames) / self.fps

    def read(self, frame_ids: Sequence[int], missing: str = 'repeat') -> list[np.ndarray]:
        """Decode frames; ascending ids, over several calls too, never decode a frame twice.

        Args:
            frame_ids (Sequence[int]): Any order, repeats allowed.
            missing (str): What to do about a frame that cannot be decoded (a damaged or cut-off
                file, or fewer frames than the annotation says). ``'repeat'``: the last good frame
                before it stands in for it (the next one, where there is none before), and one
                warning per file and process tells. ``'error'``: raise.

        Returns:
            One height x width x 3 BGR uint8 array per id, none shared.

        Raises:
            ValueError: With ``missing='error'``, naming file and frame; for negative ids; if no
                frame at all can be decoded.
        """
        if missing not in ('repeat', 'error'):
            raise ValueError(f"missing must be 'repeat' or 'error', got {missing!r}")
        ids = [int(i) for i in frame_ids]
        if ids and min(ids) < 0:
            raise ValueError(f'{self.path}: frame ids start at 0, got {min(ids)}')
        wanted = sorted(set(ids))
        images = {}
        for frame_id, (given, image) in zip(wanted, self._source.images(wanted), strict=True):
            images[frame_id] = image
            if given != frame_id:
                self._report(frame_id, missing)
        handed_out: set[int] = set()
        return [_own(images[i], handed_out) for i in ids]

    def _report(self, frame_id: int, missing: str) -> None:
        about = f'{self.path}: frame {frame_id} cannot be decoded'
        if frame_id >= self.num_frames:
            about = f'{self.path}: there is no frame {frame_id}, only {self.num_frames} frames'
        if missing == 'error':
            raise ValueError(
                f"{about}; copy or download it again, or read with missing='repeat', which puts "
                'the last good frame in its place'
            )
        if self.path not in _REPORTED:
            _REPORTED.add(self.path)
            MMLogger.get_current_instance().warning(
                f'{about}; from here on the last good frame stands in for every such frame of '
                'this file. Copy or download it again, if it is damaged'
            )


def _own(image: np.ndarray, handed_out: set[int]) -> np.ndarray:
    """The array, or a copy if somebody has it already: transforms may change it in place."""
    if id(image) in handed_out:
        return image.copy()
    handed_out.add(id(image))
    return image


class _FrameFolder:
    """A folder of numbered pictures, with the interface of :class:`VideoFile`."""

    fps = 0.0
    timestamps = None

    def __init__(self, path: str) -> None:
        self.path = path
        names = [n for n in os.listdir(path) if osp.splitext(n)[1].lower() in _PICTURES]
        numbered = sorted((self._number(name), name) for name in names)
        if not numbered:
            raise ValueError(
                f'{path} has no frames: put one picture per frame there ({", ".join(_PICTURES)})'
            )
        first = numbered[0][0]
        for expected, (number, name) in enumerate(numbered, first):
            if number != expected:
                raise ValueError(
                    f'{path}: {name} comes where frame {expected} is due. Frames need consecutive '
                    'numbers, or all after it would be taken for others; extract them again'
                )
        self._names = [name for _, name in numbered]
        self.num_frames = len(numbered)

    @cached_property
    def _size(self) -> tuple[int, int]:
        _, first = next(self.images([0]))
        return first.shape[:2]

    @property
    def height(self) -> int:
        return self._size[0]

    @property
    def width(self) -> int:
        return self._size[1]

    def close(self) -> None:
        """Nothing is open."""

    def images(self, frame_ids: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """As of :class:`VideoFile`."""
        for wanted in frame_ids:
            last = min(wanted, self.num_frames - 1)
            for frame_id in (*range(last, -1, -1), *range(last + 1, self.num_frames)):
                image = self._load(self._names[frame_id])
                if image is not None:
                    yield frame_id, image
                    break
            else:
                raise ValueError(f'none of the frames in {self.path} can be read; copy them again')

    def _number(self, name: str) -> int:
        digits = re.findall(r'\d+', osp.splitext(name)[0])
        if not digits:
            raise ValueError(
                f'{osp.join(self.path, name)} has no number in its name, so its place is unknown; '
                'name frames as 0001.jpg, 0002.jpg, ..., and keep other pictures elsewhere'
            )
        return int(digits[-1])

    def _load(self, name: str) -> np.ndarray | None:
        try:
            with Image.open(osp.join(self.path, name)) as image:
                return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
        except (OSError, ValueError, SyntaxError):  # what Pillow raises on damaged files
            return None
