"""Reading checkpoint files without running code from them."""

import os
import os.path as osp
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version
from torch import Tensor

from .messages import CONVERT, explained

# Before, torch cannot be told that the log history in mmengine's checkpoints is harmless.
_HISTORY_IS_ALLOWED = digit_version(torch.__version__) >= digit_version('2.6')
_FORCE, _FORBID = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def exists(path: str) -> bool:
    """Whether ``path`` is a file or an address."""
    return '://' in path or osp.isfile(osp.expanduser(path))


def check_checkpoint_path(path: str) -> None:
    """Raise FileNotFoundError unless ``path`` is a file or an address."""
    if not exists(path):
        raise FileNotFoundError(
            f'checkpoint {path} does not exist; train one with tools/train.py, convert one with '
            'tools/model_converters, or correct the path'
        )


def read_file(
    path: str,
    remedy: str,
    what: str = 'checkpoint',
    allow: Sequence[type] = (),
    mmap: bool = False,
    weights_only: bool = True,
) -> Any:
    """Content of a file that torch wrote, on the CPU.

    Args:
        path (str): File or address.
        remedy (str): What to do about a file that holds more than tensors, for the message.
        what (str): What to call the file in messages.
        allow (Sequence[type]): Harmless types; torch before 2.5 refuses them all the same.
        mmap (bool): Leave the tensors on disk where possible, to look at names and shapes only.
        weights_only (bool): Run no code from the file.

    Raises:
        ValueError: If it cannot be read, or not without running its code.
    """
    allowing = getattr(torch.serialization, 'safe_globals', nullcontext)
    with explained(path, remedy, what), allowing(list(allow)):
        local = osp.expanduser(path)
        if not osp.isfile(local):
            with _forced_weights_only() if weights_only else nullcontext():
                return CheckpointLoader.load_checkpoint(path, map_location='cpu')
        mmap = mmap and zipfile.is_zipfile(local)  # torch < 1.6 wrote another format
        return torch.load(local, map_location='cpu', mmap=mmap, weights_only=weights_only)


@contextmanager
def _forced_weights_only() -> Iterator[None]:
    """mmengine leaves downloads to torch.hub, which runs their code whatever torch's default is."""
    before = {name: os.environ.pop(name) for name in (_FORCE, _FORBID) if name in os.environ}
    os.environ[_FORCE] = '1'
    try:
        yield
    finally:
        del os.environ[_FORCE]
        os.environ.update(before)


def read_checkpoint(path: str, mmap: bool = False) -> tuple[dict[str, Tensor], dict]:
    """Read a checkpoint; with torch >= 2.6 no code from it is run.

    Args:
        path (str): File or address.
        mmap (bool): Leave the tensors on disk where possible, to look at names and shapes only.

    Returns:
        tuple: The tensors by name, without the prefix of distributed training, and ``meta``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is cut off, needs unsafe unpickling or has no tensors by name.
    """
    check_checkpoint_path(path)
    remedy = f'{CONVERT}, save any other as a plain state_dict'
    content = read_file(path, remedy, mmap=mmap, weights_only=_HISTORY_IS_ALLOWED)
    state = content.get('state_dict', content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(
            f'checkpoint {path} has no state_dict but a {type(content).__name__}; give one that '
            f'tools/train.py wrote, or {CONVERT}'
        )
    tensors = {
        str(name).removeprefix('module.'): tensor
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
    }
    meta = content.get('meta')
    return tensors, meta if isinstance(meta, dict) else {}
