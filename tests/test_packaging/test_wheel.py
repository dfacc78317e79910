import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

pytestmark = pytest.mark.slow

DATA = (
    'configs/_base_/default_runtime.py',
    'configs/epmvg/shapes_clip.safetensors',
    'configs/qrnet/metafile.yml',
    'configs/qrnet/qrnet_swin_refcoco.py',
    'configs/transvg/metafile.yml',
    'configs/transvg/transvg_r50_refcoco.py',
    'model-index.yml',
    'tools/test.py',
    'tools/train.py',
)


def run(*command, **kwargs) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def archives(repository, tmp_path_factory):
    """A source archive of the tree, and the wheel built from that archive."""
    folder = tmp_path_factory.mktemp('build')
    # A copy, because a build writes into the tree that other tests read.
    source = shutil.copytree(
        repository,
        folder / 'source',
        symlinks=True,
        ignore=shutil.ignore_patterns(
            '.git', '.venv*', 'work_dirs', 'data', '*.egg-info', '__pycache__', '.*_cache'
        ),
    )
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(folder), str(source))
    return next(folder.glob('*.tar.gz')), next(folder.glob('*.whl'))


def test_archives_hold_configs_and_tools_as_files(archives):
    sdist, wheel = archives
    with tarfile.open(sdist) as archive:
        files = {m.name.partition('/')[2] for m in archive.getmembers() if m.isfile()}
    assert {f'mmvg/.mim/{name}' for name in DATA} <= files
    with zipfile.ZipFile(wheel) as archive:
        entries = {info.filename: info for info in archive.infolist()}
    for name in DATA:
        info = entries[f'mmvg/.mim/{name}']
        assert info.file_size > 0
        assert (info.external_attr >> 28) != 0o12, f'{name} is a link'
    assert not [name for name in entries if name.endswith('.pyc') or name.startswith('tests/')]


def test_installed_wheel_imports_and_resolves_configs(archives, tmp_path):
    target = tmp_path / 'site'
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index']
    run(*pip, '--target', str(target), str(archives[1]))
    (tmp_path / 'child.py').write_text(
        "_base_ = ['mmvg::transvg/transvg_r50_refcoco.py', 'mmvg::_base_/models/shapes_clip.py']\n"
    )
    code = (
        'import os, mmvg\n'
        'from mmengine.config import Config\n'
        "cfg = Config.fromfile('child.py')\n"
        'weights = os.path.realpath(cfg.shapes_clip.pretrained)\n'
        'print(mmvg.__file__, cfg.model.type, weights, os.path.isfile(weights))'
    )
    printed = run(
        sys.executable,
        '-c',
        code,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(target)},
    )
    package = target / 'mmvg'
    weights = package.resolve() / '.mim' / 'configs' / 'epmvg' / 'shapes_clip.safetensors'
    expected = [str(package / '__init__.py'), 'TransVG', str(weights), 'True']
    assert printed.splitlines()[-1].split() == expected
