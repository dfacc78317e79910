"""Files that are there whole or not at all."""

import os
import signal
import subprocess
import sys

import pytest

from mmvg.datasets.atomic_output import atomic_output

KILLED = """
import os, signal, sys
from mmvg.datasets.atomic_output import atomic_output
with atomic_output(sys.argv[1]) as f:
    f.write('half')
    f.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_no_half_file(tmp_path, repository):
    out = tmp_path / 'o.jsonl'
    killed = subprocess.run([sys.executable, '-c', KILLED, str(out)], cwd=repository, timeout=60)
    assert killed.returncode == -signal.SIGKILL and not out.exists()


def test_links_and_devices_stay_what_they_are(tmp_path):
    disk, link, pipe = (tmp_path / name for name in ('disk/o.txt', 'o.txt', 'pipe'))
    disk.parent.mkdir()
    link.symlink_to(disk)
    for text in ('first', 'second'):
        with atomic_output(link) as f:
            f.write(text)
    assert link.is_symlink() and disk.read_text() == 'second'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_output(pipe, 'wb') as f:
        f.write(b'piped')
    assert os.read(reader, 9) == b'piped' and pipe.is_fifo()
    os.close(reader)


def test_an_error_leaves_the_older_file_alone(tmp_path):
    out = tmp_path / 'new' / 'o.bin'
    with atomic_output(out, 'wb') as f:
        f.write(b'old')
        assert not out.exists()
    with pytest.raises(KeyboardInterrupt), atomic_output(out) as f:
        f.write('grün')
        raise KeyboardInterrupt
    assert out.read_bytes() == b'old' and list(out.parent.iterdir()) == [out]
    with atomic_output(out) as f:
        f.write('grün')
    assert out.read_text(encoding='utf-8') == 'grün'
