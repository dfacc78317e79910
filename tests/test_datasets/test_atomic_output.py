"""Files that are there whole or not at all."""

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
