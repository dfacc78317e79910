"""Visual grounding for MMDetection: ``import mmvg`` registers every part in mmdet's registries."""

from . import compat
from .version import __version__

# The parts import mmdet.models, which fails in most of today's environments before this call.
compat.apply()

from . import apis, datasets, engine, evaluation, models, visualization  # noqa: E402

__all__ = [
    '__version__',
    'apis',
    'compat',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'visualization',
]
