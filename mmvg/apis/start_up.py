"""What every tool and the inferencer do first: find the config, fail in plain words."""

import difflib
import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed
from torch.utils.data import Dataset

import mmvg


@contextmanager
def concise_errors() -> Iterator[None]:
    """Turn errors about the user's input into a message on stderr and exit status 2.

    Only for start-up: FileNotFoundError and ValueError are what mmvg raises, naming file, record
    and remedy, for a config, data set or checkpoint that cannot be used. Later in a run the
    traceback matters.
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(2) from error


def check_together(checks: Iterable[Callable[[], object]]) -> None:
    """Run all checks, and report everything that is missing at once.

    Args:
        checks (Iterable[Callable]): Each raises FileNotFoundError or ValueError, or ImportError for
            an optional package, with a message that names the remedy.

    Raises:
        ValueError: The one problem that was found, or all of them as a list.
    """
    found = {}
    for check in checks:
        try:
            check()
        except (FileNotFoundError, ValueError, ImportError) as error:
            found.setdefault(str(error), error)  # once for several data sets of the same files
    if not found:
        return
    (message, cause), *others = found.items()
    if others or '\n' in message:
        items = dict.fromkeys(line for text in found for line in text.splitlines())
        message = '\n- '.join(['several things are missing or wrong:', *items])
    raise ValueError(message) from cause


def _config_folders() -> Iterator[Path]:
    package = Path(mmvg.__file__).parent
    for folder in (package / '.mim' / 'configs', package.parent / 'configs'):
        if folder.is_dir():
            yield folder


def check_first_picture(dataset: Dataset) -> None:
    """Raise FileNotFoundError if the first picture is absent, as all are in the wrong folder."""
    record = dataset.get_data_info(0) if hasattr(dataset, 'get_data_info') else {}
    path = record.get('img_path')
    if path and 'img' not in record and '://' not in path and not Path(path).is_file():
        raise FileNotFoundError(
            f'{path}, the first picture of the training set, does not exist; put the pictures there, '
            'or correct data_root and data_prefix in the dataset config'
        )


def _known_configs() -> Iterator[tuple[str, Path]]:
    """Every config of mmvg with its name, such as ``transvg/transvg_shapes``."""
    for folder in _config_folders():
        for path in sorted(folder.rglob('*.py')):
            name = path.relative_to(folder).with_suffix('').as_posix()
            if not name.startswith('_base_'):
                yield name, path


def _find_by_name(wanted: str) -> Path | None:
    """The config of this name or stem. A stem that several folders have means the config of the
    method that it begins with: ``transvg_r50_refcoco`` is TransVG, not EpmVG on top of it."""
    found = [path for name, path in _known_configs() if wanted in (name, path.stem)]
    return min(found, key=lambda p: not p.stem.startswith(p.parent.name), default=None)


def find_config(config: str | Path) -> Path:
    """Path of a config given as a file, or of one of mmvg's by its name.

    ``transvg_shapes``, ``mmvg::transvg/transvg_shapes.py`` and, where no such file exists,
    ``configs/transvg/transvg_shapes.py`` all mean the one that comes with the package.

    Raises:
        FileNotFoundError: If there is none; the message lists names that come close.
    """
    if Path(config).is_file():
        return Path(config)
    wanted = str(config).removeprefix('mmvg::').removeprefix('configs/').removesuffix('.py')
    if found := _find_by_name(wanted):
        return found
    known = {path.stem for _, path in _known_configs()}
    close = difflib.get_close_matches(Path(wanted).name, known, n=3, cutoff=0.4)
    hint = f'; did you mean {", ".join(close)}?' if close else ''
    raise FileNotFoundError(
        f'config {config} is neither a file nor the name of a config of mmvg{hint}'
    )


def _run_name(path: Path) -> str:
    """The stem; behind its folder for a config of mmvg whose bare stem means another one."""
    own = _find_by_name(f'{path.parent.name}/{path.stem}')
    if own is None or own == _find_by_name(path.stem):
        return path.stem
    return f'{path.parent.name}_{path.stem}'


def load_config(
    config: str | Path, options: dict | None = None, work_dir: str | None = None
) -> Config:
    """Read a config and apply what the command line says.

    Args:
        config (str | Path): See :func:`find_config`.
        options (dict, optional): ``--cfg-options``.
        work_dir (str, optional): ``--work-dir``; without it the config's own, else
            ``work_dirs/<name>``, for configs of EpmVG ``work_dirs/epmvg_<name>``.
    """
    path = find_config(config)
    cfg = Config.fromfile(str(path))
    if options:
        cfg.merge_from_dict(options)
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / _run_name(path))
    return cfg


def start_from(cfg: Config, checkpoint: str | Path, parts: Iterable[str]) -> None:
    """Let parts of the model begin with the weights that a checkpoint has under the same names."""
    for part in parts:
        path = str(Path(checkpoint).resolve())
        cfg.model[part].init_cfg = dict(type='Pretrained', checkpoint=path, prefix=f'{part}.')


def set_up_distribution(cfg: Config, launcher: str) -> None:
    """Enter the launcher's process group; on machines without CUDA with gloo.

    mmengine 0.10.7 selects a CUDA device for every process and gives DDP a device id, so that
    several processes on CPU cannot start; it leaves a process group that exists already as it is.
    """
    cfg.launcher = launcher
    if launcher != 'pytorch' or torch.cuda.is_available() or is_distributed():
        return
    torch.distributed.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.setdefault('model_wrapper_cfg', wrapper)


def leave_distribution() -> None:
    """Leave the process group, if there is one; to be called when its models are out of scope.

    Threads of gloo need the interpreter's lock to release tensors. One that asks for it while the
    interpreter shuts down aborts the process, which the launcher reports as a failed training.
    Without the group the threads end, but every wrapped model, and so the runner, holds the group.
    """
    if is_distributed():
        gc.collect()  # runners, loops and hooks refer to each other
        torch.distributed.destroy_process_group()
