"""Detections that others published: bottom-up-attention files and ReIR's pickle.

The bottom-up-attention detector (Visual Genome, 1600 classes) is where ReIR's boxes come from.
"""

import base64
import zipfile
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .safe_pickle import load_array_pickle

# Fields of a line by their number: the original release, and LXMERT's with classes.
_TSV_FIELDS = {
    6: ('image_id', 'image_w', 'image_h', 'num_boxes', 'boxes', 'features'),
    10: (
        *('image_id', 'image_h', 'image_w', 'labels', 'scores'),
        *('attribute_ids', 'attribute_scores', 'num_boxes', 'boxes', 'features'),
    ),
}
_AGAIN = 'copy or download it again'


class PictureBoxes(NamedTuple):
    """Boxes of one picture as the file has them; see :class:`~.proposal_file.Proposals`."""

    key: str
    bboxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    size: tuple[int, int] | None = None
    features: np.ndarray | None = None


def read_bottom_up(
    path: str | Path, features: bool = False, skip: Container[str] = ()
) -> Iterator[PictureBoxes]:
    """Read detections picture by picture; boxes are in px of the original picture.

    Where a file has no scores, they are 1; where it has no labels, they are -1.

    Args:
        path (str | Path): One of

            - ``.tsv``: lines of the 6 fields of the original release, arrays in base64 (image_id,
              image_w, image_h, num_boxes, boxes, features), or of the 10 fields of LXMERT, which
              also have classes and scores;
            - ``.npz``, or a folder of them: one per picture, named after it, with ``bbox`` and
              perhaps ``x`` (features), ``image_w``, ``image_h``, ``objects_id``, ``objects_conf``;
            - ``.pkl``: ReIR's ``precomp_annos.pkl`` (spec 1.2), picture -> boxes of x1, y1, x2, y2,
              score, label counted from 1. It tells no sizes and has no features.
        features (bool): Read the features, too.
        skip (Container[str]): Pictures to pass over without decoding them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an entry is not as it must be; the message names it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f'{path} does not exist; give a .tsv, .npz or .pkl of detections')
    readers = {'.tsv': _read_tsv, '.npz': _read_npz, '.pkl': _read_pickle}
    reader = _read_npz if path.is_dir() else readers.get(path.suffix)
    if reader is None or (features and reader is _read_pickle):
        raise ValueError(
            f'{path} has no features to read' if reader else f'{path} is no .tsv, .npz or .pkl'
        )
    yield from reader(path, features, skip)


def _read_tsv(path: Path, features: bool, skip: Container[str]) -> Iterator[PictureBoxes]:
    with open(path, 'rb') as f:
        for number, line in enumerate(f, 1):
            values = line.rstrip(b'\r\n').split(b'\t')
            key = values[0].decode(errors='replace')
            if key not in skip:
                yield _checked(f'{path}:{number}', key, lambda v=values: _tsv_arrays(v), features)


def _tsv_arrays(values: list[bytes]) -> dict:
    if len(values) not in _TSV_FIELDS:
        raise ValueError(f'{len(values)} fields; 6 or 10 are needed')
    entry = dict(zip(_TSV_FIELDS[len(values)], values, strict=True))
    count = int(entry['num_boxes'])
    arrays = {
        name: _table(np.frombuffer(base64.b64decode(entry[name]), dtype), count)
        for name, dtype in dict(boxes='<f4', features='<f4', labels='<i8', scores='<f4').items()
        if name in entry
    }
    return {**arrays, 'size': (int(entry['image_h']), int(entry['image_w']))}


def _table(array: np.ndarray, count: int) -> np.ndarray:
    return array.reshape(count, -1 if count else 4)  # numpy cannot infer the width of nothing


def _read_npz(path: Path, features: bool, skip: Container[str]) -> Iterator[PictureBoxes]:
    files: Iterable[Path] = sorted(path.glob('*.npz')) if path.is_dir() else [path]
    if not files:
        raise ValueError(f'{path} has no .npz files')
    for file in files:
        key = file.stem  # 12.jpg.npz belongs to 12.jpg
        if key not in skip:
            yield _checked(str(file), key, lambda file=file: _npz_arrays(file), features)


def _npz_arrays(file: Path) -> dict:
    names = dict(bbox='boxes', x='features', objects_id='labels', objects_conf='scores')
    with np.load(file, allow_pickle=False) as archive:
        arrays = {ours: archive[theirs] for theirs, ours in names.items() if theirs in archive}
        size = [int(archive[name]) for name in ('image_h', 'image_w') if name in archive]
    return {**arrays, 'size': tuple(size) if len(size) == 2 else None}


def _read_pickle(path: Path, features: bool, skip: Container[str]) -> Iterator[PictureBoxes]:
    what = 'a pickle of detections (picture -> boxes)'
    content = load_array_pickle(str(path), what)
    if not isinstance(content, dict):
        raise ValueError(f'{path} is not {what}, but a {type(content).__name__}')
    for key, entry in content.items():
        if str(key) not in skip:
            yield _checked(f'{path}: {key}', str(key), lambda e=entry: _pickle_arrays(e), features)


def _pickle_arrays(entry: dict) -> dict:
    rows = np.asarray(entry['boxes'], dtype=np.float64)
    if len(rows) == 0:
        rows = np.zeros((0, 6))
    if rows.ndim != 2 or rows.shape[1] < 6:
        raise ValueError(f'boxes of shape {rows.shape}; n x 6 or more are needed')
    return dict(boxes=rows[:, :4], scores=rows[:, 4], labels=rows[:, 5] - 1, size=None)


def _checked(where: str, key: str, decode: Callable[[], dict], features: bool) -> PictureBoxes:
    """Arrays of one picture with what a file may lack filled in, or an error that names it."""
    try:
        arrays = decode()
        bboxes = np.asarray(arrays['boxes'], dtype=np.float32)
        count = len(bboxes)
        if bboxes.shape != (count, 4):
            raise ValueError(f'boxes of shape {bboxes.shape}; n x 4 are needed')
        scores, labels = arrays.get('scores', np.ones(count)), arrays.get('labels', -np.ones(count))
        found = _table(arrays['features'], count) if features else None
        return PictureBoxes(
            key, bboxes, scores.reshape(count), labels.reshape(count), arrays['size'], found
        )
    except KeyError as e:
        raise ValueError(f'{where} has no {e}; {_AGAIN}') from e
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise ValueError(f'{where} is cut off or damaged ({e}); {_AGAIN}') from e
