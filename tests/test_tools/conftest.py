"""Runs tools as their users do, on a model trained for two iterations on generated scenes."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mmcv
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope

TINY = (
    "_base_ = '{base}'\n"
    'train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False,\n'
    '                        dataset=dict(num_scenes=16))\n'
    'val_dataloader = dict(num_workers=0, dataset=dict(num_scenes=6))\n'
    "split = dict(type='ShapesGroundingDataset', split='test', name='test', num_scenes=7,\n"
    '             test_mode=True, pipeline={{{{_base_.test_pipeline}}}})\n'
    'test_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(_delete_=True, **split))\n'
    'train_cfg = dict(max_epochs=1)\n'
    'tta_pipeline = [\n'
    "    dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations'),\n"
    "    dict(type='TestTimeAug', transforms=[\n"
    "        [dict(type='FlipWithText', prob=p, swap='word') for p in (0., 1.)],\n"
    "        [dict(type='TokenizeQueries', tokenizer='builtin:shapes', max_query_len=14)],\n"
    "        [dict(type='PackGroundingInputs')]])]\n"
    "tta_model = dict(type='GroundingTTAModel')\n"
)


@pytest.fixture(scope='session')
def tiny(repository: Path, tmp_path_factory) -> str:
    """Config that trains, validates and tests in a second."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    path.write_text(TINY.format(base=repository / 'configs/transvg/transvg_shapes.py'))
    return str(path)


@pytest.fixture(scope='session')
def run_tool(repository: Path, tmp_path_factory) -> Callable[..., str]:
    """Run ``python tools/NAME ARGS`` (or ``bash``, for a script); returns its output."""

    def run(name: str, *args: object, **env: str) -> str:
        program = 'bash' if name.endswith('.sh') else sys.executable
        search = os.pathsep.join([str(repository), os.environ.get('PYTHONPATH', '')])
        folders = [str(Path(sys.executable).parent), os.environ['PATH']]
        process = subprocess.Popen(
            [program, str(repository / 'tools' / name), *map(str, args)],
            cwd=tmp_path_factory.mktemp('cwd'),
            env={
                **os.environ,
                'PYTHONPATH': search.rstrip(os.pathsep),
                'PATH': os.pathsep.join(folders),
                'OMP_NUM_THREADS': '1',
                **env,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output = process.communicate(timeout=300)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that a launcher started
            pytest.fail(f'{name} did not end:\n{process.communicate()[0][-4000:]}')
        assert process.returncode == 0, output[-4000:]
        return output

    return run


@pytest.fixture
def fail_tool(call_tool, capsys) -> Callable[..., str]:
    """Run a tool in this process, expect exit status 2; returns the one line on stderr."""

    def fail(name: str, *args: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            call_tool(name, *args)
        assert caught.value.code == 2
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error: ')]
        return line

    return fail


@pytest.fixture(scope='session')
def trained(tiny: str, run_tool, tmp_path_factory) -> SimpleNamespace:
    """What ``train.py`` leaves: ``work_dir``, ``checkpoint`` and its ``output``."""
    work_dir = tmp_path_factory.mktemp('work')
    output = run_tool('train.py', tiny, '--work-dir', work_dir)
    return SimpleNamespace(
        work_dir=work_dir, checkpoint=work_dir / 'epoch_1.pth', output=output, config=tiny
    )


@pytest.fixture(scope='session')
def import_converter(repository: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Import a script of tools/model_converters by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / 'tools' / 'model_converters'))
        yield importlib.import_module


@pytest.fixture(scope='session')
def goldens(samples: Path) -> Path:
    """Folder with outputs of the official models, beside the samples."""
    folder = samples.parent / 'goldens'
    if not folder.is_dir():
        pytest.skip(f'{folder} is not there')
    return folder


@pytest.fixture(scope='session')
def fill(goldens: Path) -> ModuleType:
    """What makes the weights and inputs of the goldens."""
    spec = importlib.util.spec_from_file_location('fill', goldens / 'fill.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def make_golden_inputs(fill: ModuleType) -> Callable[[int], dict]:
    """The goldens' three images with one query each, as the data preprocessor gives them."""

    def make(length: int) -> dict:
        images, padding, input_ids, attention = fill.inputs(length)
        return dict(
            images=images,
            image_padding_mask=padding,
            input_ids=input_ids,
            text_padding_mask=attention == 0,
            image_index=torch.arange(len(images)),
        )

    return make


@pytest.fixture(scope='session')
def light_tensors() -> Callable[[dict], dict]:
    """Tensors of given shapes that differ along their last axis only and so need little memory."""

    def make(shapes: dict[str, tuple]) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return {
            name: torch.randn(shape[-1:], generator=generator).expand(shape)
            for name, shape in shapes.items()
        }

    return make


@pytest.fixture(scope='session')
def scenes(tiny: str, tmp_path_factory) -> list[str]:
    """Two generated scenes as files."""
    folder = tmp_path_factory.mktemp('scenes')
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(Config.fromfile(tiny).test_dataloader.dataset)
    paths = []
    for i in range(2):
        paths.append(str(folder / f'scene{i}.png'))
        mmcv.imwrite(dataset[i]['inputs'].permute(1, 2, 0).numpy(), paths[-1])
    return paths
