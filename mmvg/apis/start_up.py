"""What every tool and the inferencer do first: find the config, fail in plain words."""

import difflib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed

import mmvg


@contextmanager
def concise_errors() -> Iterator[None]:
    """Turn errors about the user's input into one line on stderr and exit status 2.

    Only for start-up: FileNotFoundError and ValueError are what mmvg raises, naming file, record
    and remedy, for a config, data set or checkpoint that cannot be used. Later in a run the
    traceback matters.
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(2) from error


def _config_folders() -> Iterator[Path]:
    package = Path(mmvg.__file__).parent
    for folder in (package / '.mim' / 'configs', package.parent / 'configs'):
        if folder.is_dir():
            yield folder


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
    known = {}
    for folder in _config_folders():
        for path in sorted(folder.rglob('*.py')):
            name = path.relative_to(folder).with_suffix('').as_posix()
            if name.startswith('_base_'):
                continue
            if wanted in (name, path.stem):
                return path
            known[path.stem] = path
    close = difflib.get_close_matches(Path(wanted).name, known, n=3, cutoff=0.4)
    hint = f'; did you mean {", ".join(close)}?' if close else ''
    raise FileNotFoundError(
        f'config {config} is neither a file nor the name of a config of mmvg{hint}'
    )


def load_config(
    config: str | Path, options: dict | None = None, work_dir: str | None = None
) -> Config:
    """Read a config and apply what the command line says.

    Args:
        config (str | Path): See :func:`find_config`.
        options (dict, optional): ``--cfg-options``.
        work_dir (str, optional): ``--work-dir``; without it the config's own, else
            ``work_dirs/<name>``.
    """
    path = find_config(config)
    cfg = Config.fromfile(str(path))
    if options:
        cfg.merge_from_dict(options)
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / path.stem)
    return cfg


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
