"""Files that appear whole or not at all, and progress of long loops."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def atomic_output(path: str | Path, mode: str = 'w') -> Iterator[IO]:
    """Open a file that gets its name only when it is complete.

    Until then it is ``.NAME.PID.part`` in the same folder, which an error, Ctrl-C or SIGTERM
    removes. A killed process (SIGKILL, power) can leave that file, but never half of ``path``, and
    an older ``path`` stays until it is replaced.

    Args:
        path (str | Path): The file to write; its folder is made.
        mode (str): ``'w'`` for UTF-8 text or ``'wb'``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with open(part, mode, encoding=None if 'b' in mode else 'utf-8') as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def stops_cleanly() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM unwind the program, so that unfinished files are removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except KeyboardInterrupt:
        print('interrupted; unfinished files were removed', file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def tracked(items: Iterable, what: str, total: int | None = None) -> Iterator[Any]:
    """Pass items on and show a progress bar on stderr, where that is a terminal."""
    if total is None and hasattr(items, '__len__'):
        total = len(items)
    console = Console(stderr=True)
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()
    bar = Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    with bar:
        task, number = bar.add_task(what, total=total), 0
        for number, item in enumerate(items, 1):  # noqa: B007
            yield item
            if number % 500 == 0:  # an update costs more than an item
                bar.update(task, completed=number)
        bar.update(task, completed=number, total=number)


def count_lines(path: str | Path) -> int:
    """Number of line ends in a file; reads at the speed of the disk."""
    with open(path, 'rb') as f:
        return sum(block.count(b'\n') for block in iter(lambda: f.read(1 << 20), b''))
