"""Detections of a whole data set in one folder, opened in milliseconds and shared by all workers.

A proposal file is a folder::

    meta.json      what made it: detector, class names, ...
    boxes.npy      all boxes of all pictures: bbox (4 x float32), score (float32), label (int32)
    features.npy   optional: one row per box, float16 or float32
    index.npy      sorted by key: rows of each picture and its size; exists once all is complete
    journal.jsonl  the same, one line per picture in the order of writing; what resuming reads

The arrays are mapped into memory and never unpickled.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

BOX = np.dtype([('bbox', '<f4', (4,)), ('score', '<f4'), ('label', '<i4')])


class Proposals(NamedTuple):
    """Boxes of one picture, the best first.

    Attributes:
        bboxes: n x 4 float32 xyxy, px of the original picture.
        scores: n float32.
        labels: n int64, index of the class; -1 where the detector gave none.
        features: n x D, or None.
        size: (height, width) of the original picture; None if unknown.
    """

    bboxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    features: np.ndarray | None = None
    size: tuple[int, int] | None = None


class ProposalFile:
    """Read a proposal file; copies and pickles of the object open the file anew.

    Args:
        path (str | Path): The folder.

    Attributes:
        meta (dict): What the writer was given; ``classes``, if present, names the labels.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is unfinished, damaged, or something else.
    """

    # What files of another kind, which hold more of each picture, have otherwise.
    KIND = 'proposal file'
    FORMAT = 'mmvg proposals 1'
    COMMAND = 'tools/analysis_tools/extract_proposals.py CONFIG CHECKPOINT DATASET-CONFIG --out {}'
    VALUES = ()  # further fields of a row of the index, as numpy describes them

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        folder = Path(path)
        if not folder.exists():
            raise FileNotFoundError(
                f'{self.KIND} {path} does not exist; make it with {self.COMMAND.format(path)}'
            )
        self.meta = self.read_meta(folder)
        if not (folder / 'index.npy').is_file():
            raise ValueError(
                f'{self.KIND} {path} is not finished; run the command that makes it again '
                f'({self.COMMAND.format(path)}), it goes on where it was stopped'
            )
        self._index = self._map('index.npy')
        self._boxes = self._map('boxes.npy')
        has_features = (folder / 'features.npy').is_file()
        self._features = self._map('features.npy') if has_features else None
        if self._index.dtype.names != self.index_type(1).names or self._boxes.dtype != BOX:
            self._fail('has arrays of another type')
        ends = self._index['start'] + self._index['count']
        if len(ends) and ends.max() > len(self._boxes):
            self._fail(f'has {len(self._boxes)} boxes, but its index asks for {ends.max()}')
        if has_features and len(self._features) != len(self._boxes):
            self._fail(f'has {len(self._features)} features for {len(self._boxes)} boxes')
        self._keys = np.ascontiguousarray(self._index['key'])  # a strided search would copy it

    def __reduce__(self) -> tuple:
        return type(self), (self.path,)  # a pickled memory map would hold all of its content

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def keys(self) -> list[str]:
        """Names of all pictures, sorted."""
        return [key.decode() for key in self._keys.tolist()]

    def get(self, *keys: str, with_features: bool = False) -> Proposals:
        """Boxes of the picture that goes by the first known of ``keys``, as arrays of their own.

        Raises:
            ValueError: If none of them is known, or there are no features.
        """
        row = self._row(keys)
        if with_features and self._features is None:
            raise ValueError(
                f'proposal file {self.path} has no features; make one from bottom-up files with '
                'tools/analysis_tools/extract_proposals.py --bottom-up FILE --features float16'
            )
        _, start, count, height, width, *_ = row.item()
        boxes = self._boxes[start : start + count]
        return Proposals(
            np.array(boxes['bbox']),
            np.array(boxes['score']),
            boxes['label'].astype(np.int64),
            np.array(self._features[start : start + count]) if with_features else None,
            (height, width) if height else None,
        )

    def _row(self, keys: tuple[str, ...]) -> np.void:
        """Row of the index of the first known of ``keys``."""
        row = next((r for r in map(self._find, keys) if r is not None), None)
        if row is None:
            raise ValueError(
                f'{self.KIND} {self.path} has no picture {" or ".join(map(repr, keys))} among '
                f'its {len(self)}; add the pictures of this data set with '
                f'{self.COMMAND.format(self.path)} (it keeps those that are there)'
            )
        return self._index[row]

    def _find(self, key: str) -> int | None:
        # Of the type of the array, or numpy would convert the array; a longer key is cut here.
        wanted = np.array(key.encode(), dtype=self._keys.dtype)
        row = int(np.searchsorted(self._keys, wanted))
        found = row < len(self._keys) and self._keys[row] == key.encode()
        return row if found else None

    def _map(self, name: str) -> np.ndarray:
        try:
            return np.load(Path(self.path) / name, mmap_mode='r', allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            self._fail(f'has a damaged {name} ({e})')

    def _fail(self, problem: str) -> None:
        raise ValueError(
            f'{self.KIND} {self.path} {problem}; copy it again, or delete it and make it with '
            f'{self.COMMAND.format(self.path)}'
        )

    @classmethod
    def index_type(cls, key_bytes: int) -> np.dtype:
        """Row of ``index.npy`` for keys of up to so many bytes; height is 0 where it is unknown."""
        numbers = [(name, '<i8') for name in ('start', 'count', 'height', 'width')]
        return np.dtype([('key', f'S{key_bytes}'), *numbers, *cls.VALUES])

    @classmethod
    def read_meta(cls, folder: Path) -> dict:
        """Content of ``meta.json``; ValueError if the folder is no file of this kind."""
        try:
            meta = json.loads((folder / 'meta.json').read_text(encoding='utf-8'))
            if meta['format'] != cls.FORMAT:
                raise ValueError(f'it says {meta["format"]!r}')
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise ValueError(
                f'{folder} is not a {cls.KIND} of this version of mmvg ({e}); choose another, or '
                f'make it with {cls.COMMAND.format(folder)}'
            ) from e
        return meta
