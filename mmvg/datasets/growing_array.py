"""An array on disk that rows are appended to."""

import os
import struct
from pathlib import Path

import numpy as np

HEADER_BYTES = 256  # room for any number of rows, so that the header can be written again


class GrowingArray:
    """A .npy file that rows are appended to; its header tells their number after ``seal``."""

    def __init__(self, path: Path, dtype: np.dtype | None = None, shape: tuple = ()) -> None:
        new = not path.is_file() or path.stat().st_size < HEADER_BYTES
        self._file = open(path, 'w+b' if new else 'r+b')  # noqa: SIM115, kept open
        self.rows = 0
        if new:
            self.dtype, self.shape = np.dtype(dtype), tuple(shape)
            self._write_header()
        else:
            self._read_header(path)
        self._row_bytes = self.dtype.itemsize * int(np.prod(self.shape))
        self._file.seek(0, os.SEEK_END)
        self.rows = (self._file.tell() - HEADER_BYTES) // self._row_bytes

    def append(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def truncate(self, rows: int) -> bool:
        """Keep the first rows; whether there was more, if only a part of a row."""
        self.rows = rows
        size = HEADER_BYTES + rows * self._row_bytes
        longer = self._file.seek(0, os.SEEK_END) > size
        if longer:
            self._file.truncate(size)
            self._file.seek(size)
        return longer

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def seal(self) -> None:
        self._write_header()
        self._file.seek(0, os.SEEK_END)
        self.sync()

    def close(self) -> None:
        self._file.close()

    def _write_header(self) -> None:
        """Version 1.0 of the format, padded more than numpy does."""
        descr = np.lib.format.dtype_to_descr(self.dtype)
        text = repr(dict(descr=descr, fortran_order=False, shape=(self.rows, *self.shape)))
        room = HEADER_BYTES - 10
        header = np.lib.format.magic(1, 0) + struct.pack('<H', room)
        self._file.seek(0)
        self._file.write(header + text.encode('latin1').ljust(room - 1) + b'\n')

    def _read_header(self, path: Path) -> None:
        try:
            np.lib.format.read_magic(self._file)
            (_, *shape), _, self.dtype = np.lib.format.read_array_header_1_0(self._file)
        except ValueError as e:
            raise ValueError(f'{path} is damaged ({e}); delete {path.parent} and start anew') from e
        self.shape = tuple(shape)
