"""Writing of proposal files; see :mod:`mmvg.datasets.proposal_file` for their layout."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.logging import MMLogger

from .atomic_output import atomic_output
from .growing_array import HEADER_BYTES, GrowingArray
from .proposal_file import BOX, ProposalFile


class ProposalWriter:
    """Write a proposal file picture by picture; a killed run goes on where it was.

    A picture counts as written when its line is in the journal, which happens after its boxes are
    on the disk: what a killed run left half-written is cut off by the next. Used as a context
    manager, it completes the file unless an error ends the block.

    Args:
        path (str | Path): The folder; it may hold a proposal file, to which pictures are added.
        meta (dict): JSON-serialisable description of what makes the boxes, e.g. ``config``,
            ``checkpoint``, ``classes``. Adding to a file of another description is refused.
        commit_every (int): A killed run loses this many pictures at most.

    Attributes:
        done (set[str]): Keys of the pictures that are there.

    Raises:
        ValueError: If the folder holds something else, or another process writes to it.
    """

    READER = ProposalFile  # says what is special about files of its kind

    def __init__(self, path: str | Path, meta: dict, commit_every: int = 32) -> None:
        self.path = Path(path)
        self.commit_every = commit_every
        self._claim(json.loads(json.dumps({'format': self.READER.FORMAT, **meta})))
        self._boxes = GrowingArray(self.path / 'boxes.npy', BOX)
        features = self.path / 'features.npy'
        kept_features = features.is_file() and features.stat().st_size >= HEADER_BYTES
        self._features = GrowingArray(features) if kept_features else None
        self._entries: list[tuple] = []  # key, start, count, height, width, further values
        self._pending: list[str] = []
        self._recover()
        self.done = {entry[0] for entry in self._entries}

    def __enter__(self) -> 'ProposalWriter':
        return self

    def __exit__(self, error: type | None, *_) -> None:
        self.close(complete=error is None)

    def add(
        self,
        key: str,
        bboxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        size: tuple[int, int] | None = None,
        features: np.ndarray | None = None,
        values: tuple = (),
    ) -> None:
        """Append the boxes of a picture, sorted by falling score.

        Args:
            key (str): File name or id of the picture.
            bboxes, scores, labels, size, features: See :class:`Proposals`.
            values (tuple): What ``READER.VALUES`` names.

        Raises:
            ValueError: If the picture is there already, or an array is not as it must be.
        """
        if not key or key in self.done or '\0' in key:
            raise ValueError(f'{self.path}: picture {key!r} is there already, or is no name')
        rows = self._rows(key, bboxes, scores, labels)
        self._check_features(key, features, len(rows))
        (self.path / 'index.npy').unlink(missing_ok=True)  # not complete any longer
        order = np.argsort(-rows['score'], kind='stable')
        height, width = size or (0, 0)
        entry = key, self._boxes.rows, len(rows), int(height), int(width), *values
        self._boxes.append(rows[order])
        if features is not None and len(rows):
            self._features.append(features[order])
        self.done.add(key)
        self._entries.append(entry)
        self._pending.append(json.dumps([key, *entry[2:]]) + '\n')
        if len(self._pending) >= self.commit_every:
            self.commit()

    def counts(self) -> list[int]:
        """Number of boxes of every picture."""
        return [entry[2] for entry in self._entries]

    def commit(self) -> None:
        """Bring everything that was added onto the disk: boxes first, then their journal lines."""
        if not self._pending:
            return
        for array in self._arrays():
            array.sync()
        self._journal.write(''.join(self._pending).encode())
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._pending = []

    def close(self, complete: bool = True) -> None:
        """Commit, and with ``complete`` write the index, without which the file is not read."""
        self.commit()
        if complete and not (self.path / 'index.npy').is_file():
            for array in self._arrays():
                array.seal()
            longest = max((len(key.encode()) for key in self.done), default=1)
            rows = [(entry[0].encode(), *entry[1:]) for entry in self._entries]
            index = np.sort(np.array(rows, dtype=self.READER.index_type(longest)), order='key')
            with atomic_output(self.path / 'index.npy', 'wb') as f:
                np.save(f, index, allow_pickle=False)
        for file in (self._journal, *self._arrays()):
            file.close()

    def _claim(self, meta: dict) -> None:
        """Make the folder or check that it is of the same making, and lock it."""
        import fcntl  # absent from Windows, where files can be read but not written

        if self.path.exists() and not (self.path.is_dir() and not any(self._content())):
            found = self.READER.read_meta(self.path)
            differing = [k for k in {**found, **meta} if found.get(k) != meta.get(k)]
            if differing:
                known = ', '.join(f'{k} {str(found.get(k))[:80]}' for k in differing)
                raise ValueError(
                    f'{self.READER.KIND} {self.path} was made in another way ({known}); choose another '
                    'file, or delete this one'
                )
        else:
            with atomic_output(self.path / 'meta.json') as f:
                json.dump(meta, f, indent=1, ensure_ascii=False)
        self._journal = open(self.path / 'journal.jsonl', 'a+b')  # noqa: SIM115, kept open
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            self._journal.close()
            raise ValueError(f'another process is writing to {self.READER.KIND} {self.path}') from e
        for left in self.path.glob('.index.npy.*.part'):  # by a killed process
            left.unlink()

    def _content(self) -> Iterator[Path]:
        """Files of the folder, less a half-written description that a killed process left."""
        yield from (f for f in self.path.iterdir() if not f.name.startswith('.meta.json.'))

    def _recover(self) -> None:
        """Read the journal, and cut off what lies behind its last good line."""
        self._journal.seek(0)
        content = self._journal.read()
        end = position = 0
        for line in content.splitlines(keepends=True):
            try:
                key, *rest = json.loads(line)
            except ValueError:
                break
            entry = key, end, *rest
            if not line.endswith(b'\n') or not self._holds(entry):
                break
            self._entries.append(entry)
            end += entry[2]
            position += len(line)
        cut = self._truncate(end)
        if position < len(content) or any(cut):
            MMLogger.get_current_instance().warning(
                f'{self.path}: a run was stopped in the middle of writing; cut off what lies '
                f'behind the {len(self._entries)} complete pictures'
            )
            (self.path / 'index.npy').unlink(missing_ok=True)
            self._journal.truncate(position)

    def _holds(self, entry: tuple) -> bool:
        """Whether all of a picture is there."""
        _, start, count, *_ = entry
        return start + count <= min(array.rows for array in self._box_arrays())

    def _truncate(self, rows: int) -> list[bool]:
        """Cut off what lies behind the boxes of the last complete picture; what there was to cut."""
        return [array.truncate(rows) for array in self._box_arrays()]

    def _arrays(self) -> list[GrowingArray]:
        return self._box_arrays()

    def _box_arrays(self) -> list[GrowingArray]:
        """Those with one row per box."""
        return [array for array in (self._boxes, self._features) if array is not None]

    def _rows(self, key: str, bboxes, scores, labels) -> np.ndarray:
        count, labels = len(bboxes), np.asarray(labels)
        shapes = np.shape(bboxes), np.shape(scores), np.shape(labels)
        if shapes != ((count, 4), (count,), (count,)):
            raise ValueError(
                f'{self.path}: boxes, scores and labels of {key!r} have shapes {shapes}; n x 4, n '
                'and n are needed'
            )
        rows = np.empty(count, BOX)
        rows['bbox'], rows['score'], rows['label'] = bboxes, scores, labels
        x1, y1, x2, y2 = rows['bbox'].T
        good = np.isfinite(rows['bbox']).all(1) & np.isfinite(rows['score'])
        good &= (x2 >= x1) & (y2 >= y1) & (rows['label'] == labels) & (labels >= -1)
        if not good.all():
            bad = rows[np.argmin(good)]
            raise ValueError(
                f'{self.path}: picture {key!r} has box {bad["bbox"].tolist()} with score '
                f'{bad["score"]:g} and label {bad["label"]}; x1 <= x2, y1 <= y2, finite numbers and '
                'a label of -1 or more are needed'
            )
        return rows

    def _check_features(self, key: str, features: np.ndarray | None, count: int) -> None:
        """Make the array of features with the first picture; the others must be like it."""
        if count == 0 or (features is None and self._features is None):
            return
        if features is None or (self._boxes.rows and self._features is None):
            raise ValueError(
                f'{self.path}: either all pictures have features or none; {key!r} differs'
            )
        allowed = [np.dtype('float16'), np.dtype('float32')]
        width = features.shape[1:]
        if self._features is not None:
            allowed, width = [self._features.dtype], self._features.shape
        if features.dtype not in allowed or len(width) != 1 or features.shape != (count, *width):
            raise ValueError(
                f'{self.path}: picture {key!r} has {features.dtype} features of shape '
                f'{features.shape}; {" or ".join(map(str, allowed))} of {(count, *width)} are needed'
            )
        if self._features is None:
            self._features = GrowingArray(self.path / 'features.npy', features.dtype, width)
