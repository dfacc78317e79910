"""Progress and interruption of long loops."""

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
