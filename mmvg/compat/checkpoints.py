"""Loading mmengine's own checkpoints with ``weights_only=True``, the default since torch 2.6.

mmengine 0.10.7 stores its log history in checkpoints and then cannot resume from them. The types
of that history are put on torch's allow-list; ``weights_only`` stays on.

Upstream: https://github.com/open-mmlab/mmengine/issues/1655,
https://github.com/open-mmlab/mmengine/pull/1650.
"""

from collections.abc import Callable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

try:
    from numpy._core import multiarray
except ImportError:  # NumPy 1
    from numpy.core import multiarray

STATISTICS = ('min', 'max', 'mean', 'current')


def history_getattr(obj: object, name: str) -> Callable:
    """The only use of ``getattr`` that a checkpoint may make.

    A pickled :class:`HistoryBuffer` names its statistics as ``getattr(HistoryBuffer, 'mean')``.
    The builtin would let a crafted file reach any attribute of any object, so this takes its place.

    Raises:
        ValueError: For any other object or attribute.
    """
    if obj is HistoryBuffer and name in STATISTICS:
        return getattr(obj, name)
    raise ValueError(
        f'Blocked: the checkpoint asks for attribute {name!r} of {obj!r}. mmengine writes no such '
        'thing, so do not load this file unless you trust its author.'
    )


def allow_log_history() -> None:
    """Put what mmengine's log history consists of on torch's allow-list."""
    if digit_version(torch.__version__) < digit_version('2.6'):
        return
    # NumPy < 1.25 has no such module and pickles dtypes as np.dtype alone.
    dtypes = [getattr(np.dtypes, n) for n in np.dtypes.__all__] if hasattr(np, 'dtypes') else []
    rebuild = ((multiarray._reconstruct, '_reconstruct'), (multiarray.scalar, 'scalar'))
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            *dtypes,
            # NumPy 2 moved the module; a checkpoint may come from either side.
            *(
                (function, f'numpy.{core}.multiarray.{name}')
                for function, name in rebuild
                for core in ('core', '_core')
            ),
            (history_getattr, 'builtins.getattr'),
        ]
    )
