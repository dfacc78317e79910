"""``mmvg::`` in configs: ``_base_ = 'mmvg::transvg/transvg_r50_refcoco.py'``.

mmengine resolves such names for the packages in a table of its own only, through pkg_resources
(removed in setuptools 82), not for editable installations, and expects a registry scope of the
package's name, while mmvg's parts live in mmdet's.

Upstream: https://github.com/open-mmlab/mmengine/blob/v0.10.7/mmengine/config/utils.py,
https://github.com/open-mmlab/mmcv/issues/3325.
"""

from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

CONFIGS = Path(__file__).parents[1] / '.mim' / 'configs'

mmengine_get_cfg_path = Config._get_cfg_path


def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    """Resolve one entry of ``_base_``.

    Args:
        cfg_path: ``mmvg::<path in configs/>``, or anything that mmengine resolves itself.
        filename: The config that inherits.

    Returns:
        The file, and the scope in whose registries its parts are built (None: unchanged).

    Raises:
        ModuleNotFoundError: Naming the remedy where mmengine misses pkg_resources.
    """
    package, _, name = cfg_path.partition('::')
    if package == 'mmvg':
        return str(CONFIGS / name), 'mmdet'
    try:
        return mmengine_get_cfg_path(cfg_path, filename)
    except ModuleNotFoundError as error:
        if error.name != 'pkg_resources':
            raise
        raise ModuleNotFoundError(
            f'{filename}: this mmengine needs pkg_resources to find {cfg_path!r}: '
            'pip install "setuptools<82".',
            name=error.name,
        ) from error


def register_package() -> None:
    """Make mmvg a package that configs can inherit from."""
    MODULE2PACKAGE.setdefault('mmvg', 'mmvg')
    Config._get_cfg_path = staticmethod(get_cfg_path)
