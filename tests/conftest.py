"""What every test shares: no network, few threads, mmdet's scope and the real samples."""

import contextlib
import io
import os
import runpy
import socket
import sys
from collections.abc import Callable
from pathlib import Path

# Read by huggingface_hub when it is imported, which `import mmvg` below does.
os.environ['HF_HUB_OFFLINE'] = '1'

import pytest
import torch
from mmengine.registry import DefaultScope

# mmdet.models can be imported after this only, and test files import mmdet before mmvg.
import mmvg  # noqa: F401

REPOSITORY = Path(__file__).parents[1]


def pytest_configure() -> None:
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '1')))


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Builds by registered name look in mmdet's registries, as they do under a runner."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope='session')
def call_tool() -> Callable[..., str]:
    """Run ``tools/NAME`` in this process, which saves the imports; returns its standard output."""

    def call_tool(name: str, *args: object) -> str:
        path, output = REPOSITORY / 'tools' / name, io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
            patch.setattr(sys, 'argv', [name, *map(str, args)])
            patch.setenv('LOCAL_RANK', '0')
            patch.syspath_prepend(str(path.parent))  # as python does
            runpy.run_path(str(path), run_name='__main__')
        return output.getvalue()

    return call_tool


@pytest.fixture(scope='session')
def free_port() -> Callable[[], int]:
    """A port of this machine that nobody listens on."""

    def free_port() -> int:
        with socket.socket() as server:
            server.bind(('127.0.0.1', 0))
            return server.getsockname()[1]

    return free_port


@pytest.fixture(scope='session')
def samples() -> Path:
    """Folder of the real samples: ``MMVG_SAMPLES``, by default ``../shared/samples``.

    Without it the test is skipped, or fails if ``MMVG_REQUIRE_SAMPLES=1``.
    """
    folder = (REPOSITORY / os.environ.get('MMVG_SAMPLES', '../shared/samples')).resolve()
    if not folder.is_dir():
        reason = f'no real samples at {folder}; set MMVG_SAMPLES to their folder'
        if os.environ.get('MMVG_REQUIRE_SAMPLES') == '1':
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
