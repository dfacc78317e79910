"""Embeddings of a frozen teacher, each computed once: in memory, and on disk if wanted."""

import os
import os.path as osp
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import TypeVar

import numpy as np
import torch
from mmengine.logging import MMLogger
from torch import Tensor

# What an entry takes beside its numbers and its key: the array, the string, the dictionary's slot.
_OVERHEAD = 300
# SQLite before 3.32 takes 999 parameters in a statement.
_CHUNK = 500
_T = TypeVar('_T')


class EmbeddingCache:
    """Look embeddings up by key, compute those that are missing, keep them.

    Memory holds the most recently used ones. The file, one per fingerprint, holds all of them and
    is shared by the processes of a run and by later runs. Losing it costs time only, so damaged
    content is replaced, and a disk that fails is left out, with a warning each.

    Args:
        max_mb (float): Bound of the memory in MiB; 0 keeps nothing there.
        dir (str, optional): Folder of the file, made if needed.
        fingerprint (str): Of everything that the embeddings depend on beside the key.
    """

    def __init__(
        self, max_mb: float = 256, dir: str | None = None, fingerprint: str = 'embeddings'
    ) -> None:
        if max_mb < 0:
            raise ValueError(f'max_mb must be 0 or more MiB, got {max_mb}')
        self.max_bytes = int(max_mb * 2**20)
        self.num_bytes = 0
        self._rows: OrderedDict[str, np.ndarray] = OrderedDict()
        self._file = None if dir is None else _RowFile(osp.join(dir, f'{fingerprint}.sqlite'))

    def __len__(self) -> int:
        """Number of embeddings in memory."""
        return len(self._rows)

    def fetch(self, keys: Sequence[str], encode: Callable[[list[int]], Tensor]) -> Tensor:
        """Embeddings of all keys.

        Args:
            keys (Sequence[str]): N keys; equal keys stand for equal embeddings.
            encode (Callable): Takes positions in ``keys``, one for each embedding that is missing,
                and gives their embeddings, n x d. Called once or not at all.

        Returns:
            Tensor: N x d, float32, on the CPU.
        """
        position = first_positions(keys)
        found = {key: self._rows[key] for key in position if key in self._rows}
        if self._file is not None:
            found.update(self._file.read([key for key in position if key not in found]))
        missing = [key for key in position if key not in found]
        if missing:
            rows = encode([position[key] for key in missing]).detach().float().cpu().numpy()
            # Copies, because a view would keep the embeddings of the whole batch alive.
            new = {key: row.copy() for key, row in zip(missing, rows)}
            found.update(new)
            if self._file is not None:
                self._file.write(new)
        self._remember(found)
        return torch.from_numpy(np.stack([found[key] for key in keys]))

    def _remember(self, found: dict[str, np.ndarray]) -> None:
        for key, row in found.items():
            if key not in self._rows:
                self.num_bytes += row.nbytes + len(key) + _OVERHEAD
            self._rows[key] = row
            self._rows.move_to_end(key)
        while self.num_bytes > self.max_bytes:
            key, row = self._rows.popitem(last=False)
            self.num_bytes -= row.nbytes + len(key) + _OVERHEAD


def first_positions(keys: Sequence[str]) -> dict[str, int]:
    """Where each distinct key occurs first, in this order."""
    positions: dict[str, int] = {}
    for i, key in enumerate(keys):
        positions.setdefault(key, i)
    return positions


class _RowFile:
    """Rows of float32 in SQLite, which sees to it that several processes may write at a time.

    Each call opens the file anew: a connection must not be carried into forked data workers, and
    most steps of a training need none. Its default journal, unlike WAL, works on network drives.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._usable = True
        self._warned: set[str] = set()
        try:
            os.makedirs(osp.dirname(path), exist_ok=True)
        except OSError as e:
            self._give_up(e)

    def read(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Rows of those keys that are there and undamaged."""
        found = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            query = (
                'SELECT key, CAST(data AS BLOB), checksum FROM embeddings '
                f'WHERE key IN ({",".join("?" * len(chunk))})'
            )
            for key, row, checksum in self._attempt(
                lambda db, q=query, c=chunk: db.execute(q, c).fetchall(), ()
            ):
                if isinstance(row, bytes) and _checksum(key, row) == checksum:
                    found[key] = np.frombuffer(row, dtype='<f4').astype(np.float32)
                else:
                    self._warn('row', f'{self.path}: damaged embeddings are computed again')
        return found

    def write(self, rows: dict[str, np.ndarray]) -> None:
        """Add or replace rows, all or none."""
        blobs = ((key, row.astype('<f4').tobytes()) for key, row in rows.items())
        entries = [(key, blob, _checksum(key, blob)) for key, blob in blobs]

        def insert(db: sqlite3.Connection) -> None:
            db.execute('BEGIN IMMEDIATE')
            db.executemany('INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)', entries)
            db.execute('COMMIT')

        self._attempt(insert, None)

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], otherwise: _T) -> _T:
        """Work on the file; a damaged one is set aside, after that a new one is used."""
        for attempt in range(3):
            if not self._usable:
                break
            try:
                with closing(sqlite3.connect(self.path, 60, isolation_level=None)) as db:
                    self._prepare(db)
                    return work(db)
            except sqlite3.OperationalError as e:  # full, read-only, locked for a minute
                self._give_up(e)
            except sqlite3.DatabaseError as e:
                # The second look: another process may have set the file aside meanwhile.
                if attempt:
                    self._set_aside(e)
        return otherwise

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        self._warn('disk', f'{self.path} cannot be used ({error}); embeddings stay in memory only')

    @staticmethod
    def _prepare(db: sqlite3.Connection) -> None:
        # Checksums find what a power cut leaves behind, so nothing need wait for the disk.
        db.execute('PRAGMA synchronous = OFF')
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'embeddings'").fetchall():
            db.execute('BEGIN IMMEDIATE')
            db.execute(
                'CREATE TABLE IF NOT EXISTS embeddings '
                '(key TEXT PRIMARY KEY, data BLOB, checksum INTEGER) WITHOUT ROWID'
            )
            db.execute('COMMIT')

    def _set_aside(self, error: Exception) -> None:
        try:
            with suppress(FileNotFoundError):
                os.replace(self.path, f'{self.path}.damaged')
            with suppress(FileNotFoundError):
                # That of the old file, which SQLite would play into the new one.
                os.remove(f'{self.path}-journal')
        except OSError as e:  # the folder is read-only
            self._give_up(e)
            return
        self._warn(
            'file', f'{self.path} is damaged ({error}): kept as .damaged, embeddings computed again'
        )

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            MMLogger.get_current_instance().warning(f'embedding cache: {message}')


def _checksum(key: str, row: bytes) -> int:
    return zlib.crc32(row, zlib.crc32(key.encode()))
