"""Read pickles that come from outside without letting them run code.

The annotation files of referring expressions are pickles: REFER's ``refs(*.p)`` and TransVG's
``.pth`` index files; so is ReIR's file of detections. ``pickle.load`` executes whatever such a file
asks for, so all are read by an unpickler that resolves no symbol at all, or only the few that
rebuild numpy arrays.
"""

import pickle
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

try:
    from numpy._core import multiarray, numeric
except ImportError:  # numpy 1.x
    from numpy.core import multiarray, numeric

# What the first two pickles of a file written by torch.save before version 1.6 must hold.
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001

SymbolTable = dict[tuple[str, str], Callable]


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Stand-in for ``_codecs.encode``, the way to write bytes in protocol 2: latin1 only."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'bytes in encoding {encoding!r}')
    return text.encode('latin1')


_NUMPY_SYMBOLS: SymbolTable = {
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): _encode_latin1,
}
for _core in ('numpy.core', 'numpy._core'):
    _NUMPY_SYMBOLS[f'{_core}.multiarray', '_reconstruct'] = multiarray._reconstruct
    _NUMPY_SYMBOLS[f'{_core}.multiarray', 'scalar'] = multiarray.scalar
    _NUMPY_SYMBOLS[f'{_core}.numeric', '_frombuffer'] = numeric._frombuffer  # protocol 5


class _ForbiddenSymbolError(pickle.UnpicklingError):
    """A pickle asked for something outside its table of symbols."""


class _RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that knows no symbol but those of a table."""

    def __init__(self, file: BinaryIO, symbols: SymbolTable, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._symbols = symbols

    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) not in self._symbols:
            raise _ForbiddenSymbolError(f'{module}.{name}')
        return self._symbols[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _ForbiddenSymbolError('a stored tensor')


def _load(file: BinaryIO, path: str, what: str, symbols: SymbolTable) -> Any:
    """One pickle from ``file``; byte strings of Python 2 are utf-8, or else latin1."""
    start = file.tell()
    for encoding in ('utf-8', 'latin1'):
        file.seek(start)
        try:
            return _RestrictedUnpickler(file, symbols, encoding).load()
        except _ForbiddenSymbolError as e:
            raise ValueError(
                f'{path} was not read: it asks for {e}, which {what} never does, so loading '
                'it could run code. Delete it and take the file from its original source'
            ) from e
        except Exception as e:  # a damaged pickle raises nearly anything
            problem = e
    raise ValueError(
        f'{path} is not {what}, or it is damaged ({problem}); take the file from its '
        'original source again'
    ) from problem


def load_refs(path: str) -> Any:
    """Read a ``refs(*.p)`` pickle of the REFER toolkit: lists, dicts, strings and numbers only.

    Args:
        path (str): A file written by Python 2 or 3, any protocol.

    Raises:
        ValueError: If the pickle asks for any symbol, or is no pickle. Nothing in it has run then.
    """
    with open(path, 'rb') as f:
        return _load(f, path, 'a refs pickle of the REFER toolkit', {})


def load_array_pickle(path: str, what: str) -> Any:
    """Read a pickle of numpy arrays in lists and dicts.

    Args:
        path (str): A file written by Python 2 or 3, any protocol.
        what (str): Name of this kind of file, for messages.

    Raises:
        ValueError: If the pickle asks for any other symbol, or is no pickle.
    """
    with open(path, 'rb') as f:
        return _load(f, path, what, _NUMPY_SYMBOLS)


def load_torch_index(path: str) -> Any:
    """Read a TransVG index file: a list of tuples written by ``torch.save``.

    Both formats of torch.save are read, the sequence of pickles (before torch 1.6) and the zip
    archive. Boxes may be numpy arrays or scalars; tensors and any other symbol are refused.

    Args:
        path (str): E.g. ``unc_val.pth``.

    Raises:
        ValueError: If the file asks for any other symbol, or was not written by torch.save.
    """
    what = 'a TransVG index file (a list of tuples saved by torch.save)'
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [n for n in archive.namelist() if n.split('/')[-1] == 'data.pkl']
            if len(members) != 1:
                raise ValueError(
                    f'{path} is a zip archive but not {what}; take the file from its '
                    'original source'
                )
            content = BytesIO(archive.read(members[0]))
        return _load(content, path, what, _NUMPY_SYMBOLS)
    with open(path, 'rb') as f:
        magic, protocol = (_load(f, path, what, {}) for _ in range(2))
        if (magic, protocol) != (_TORCH_MAGIC, _TORCH_PROTOCOL):
            raise ValueError(
                f"{path} is a pickle but not {what}; refs(*.p) files are read with layout='refer'"
            )
        _load(f, path, what, {})  # sizes and byte order of the writing machine
        return _load(f, path, what, _NUMPY_SYMBOLS)
