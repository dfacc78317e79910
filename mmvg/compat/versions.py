"""One clear line for installations that cannot work.

Without it they end in an ``AssertionError``, or in a missing module deep inside mmdet.

Upstream: https://github.com/open-mmlab/mmdetection/issues/11763.
"""

import importlib
import importlib.util

REMEDY = (
    'In a new environment, in the folder of mmvg: pip install -e ".[openmmlab]" (or ".[onedl]", the '
    'maintained forks).'
)


def check_versions() -> None:
    """Import mmengine, mmcv and mmdet, whose top levels are light and check each other.

    Raises:
        ImportError: Naming what is missing or does not fit, and how to install a set that does.
    """
    for name in ('mmengine', 'mmcv', 'mmdet'):
        try:
            module = importlib.import_module(name)
        except AssertionError as error:
            reason = str(error).partition(' Please')[0]
            raise ImportError(f'{name} refuses this environment: {reason} {REMEDY}') from error
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ImportError(
                f'mmvg needs MMDetection 3, and {name} is not installed. {REMEDY}'
            ) from error
    if importlib.util.find_spec('mmdet.registry') is None:
        raise ImportError(
            f'mmvg needs MMDetection 3, and mmdet {module.__version__} is installed. {REMEDY}'
        )
