"""mmpretrain's multimodal models with a newer transformers than they were written for.

mmdet's ReID models import ``mmpretrain.models`` if mmpretrain is installed, which imports BLIP and
OFA. They break with an error that mmdet does not catch, so ``import mmdet.models`` fails:

====================  =======================
mmpretrain            breaks with transformers
====================  =======================
1.2 (open-mmlab)      >= 4.52
1.3 (onedl forks)     >= 5
====================  =======================

Upstream: https://github.com/open-mmlab/mmpretrain/issues (no release since 1.2.0; found by
importing each pair of versions).
"""

import importlib
import importlib.metadata
import importlib.util
import sys

from mmengine.utils import digit_version


def disable_if_broken() -> bool:
    """Let mmpretrain skip its multimodal models where they cannot be imported.

    This is the switch that mmpretrain itself turns off when transformers is missing; its backbones
    keep working.

    Returns:
        Whether they were switched off.
    """
    if 'mmpretrain.models' in sys.modules or importlib.util.find_spec('mmpretrain') is None:
        return False
    dependency = importlib.import_module('mmpretrain.utils.dependency')
    mmpretrain = digit_version(sys.modules['mmpretrain'].__version__)
    first_broken = '4.52' if mmpretrain < digit_version('1.3') else '5.0'
    transformers = digit_version(importlib.metadata.version('transformers'))
    if transformers < digit_version(first_broken):
        return False
    dependency.WITH_MULTIMODAL = False
    return True
