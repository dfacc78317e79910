"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_output(path: str | Path, mode: str = 'w') -> Iterator[IO]:
    """Open a file that gets its name only when it is complete.

    Until then it is ``.NAME.PID.part`` in the same folder, which an error or Ctrl-C removes. A killed
    process can leave that file, but never half of ``path``, and an older ``path`` stays until it is
    replaced.

    Args:
        path (str | Path): The file to write; its folder is made. Links are followed, and what is no
            regular file, such as /dev/stdout, is written as it is.
        mode (str): ``'w'`` for UTF-8 text or ``'wb'``.
    """
    encoding = None if 'b' in mode else 'utf-8'
    if Path(path).exists() and not Path(path).is_file():
        with open(path, mode, encoding=encoding) as f:
            yield f
        return
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with open(part, mode, encoding=encoding) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
