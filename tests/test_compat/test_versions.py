import subprocess
import sys
from types import ModuleType

import pytest

from mmvg.compat import versions


@pytest.mark.parametrize('name', ['mmengine', 'mmcv', 'mmdet'])
def test_missing_package_is_one_line_with_the_remedy(repository, name):
    # A None in sys.modules is Python's way to make an import fail.
    code = f'import sys; sys.modules[{name!r}] = None; import mmvg'
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=repository
    )
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith(f'ImportError: mmvg needs MMDetection 3, and {name} is not inst')
    assert 'pip install -e ".[openmmlab]"' in last_line


def test_versions_that_mmdet_refuses(tmp_path, monkeypatch):
    # What mmdet 3.3.0 does when it meets mmcv 2.2.0.
    (tmp_path / 'mmdet.py').write_text(
        "assert False, 'MMCV==2.2.0 is used but incompatible. Please install mmcv<2.2.0.'"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmdet')
    with pytest.raises(ImportError) as caught:
        versions.check_versions()
    assert str(caught.value) == (
        'mmdet refuses this environment: MMCV==2.2.0 is used but incompatible. ' + versions.REMEDY
    )


def test_mmdet_2_is_refused(monkeypatch):
    mmdet = ModuleType('mmdet')
    mmdet.__version__, mmdet.__path__ = '2.28.1', []
    monkeypatch.setitem(sys.modules, 'mmdet', mmdet)
    monkeypatch.delitem(sys.modules, 'mmdet.registry', raising=False)
    with pytest.raises(ImportError, match=r'needs MMDetection 3, and mmdet 2\.28\.1 is installed'):
        versions.check_versions()
