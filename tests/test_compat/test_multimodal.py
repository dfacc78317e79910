import importlib.metadata
import sys

import pytest

from mmvg.compat.multimodal import disable_if_broken

dependency = pytest.importorskip('mmpretrain.utils.dependency')


@pytest.mark.parametrize(
    ('mmpretrain', 'transformers', 'broken'),
    [
        ('1.2.0', '4.51.3', False),
        ('1.2.0', '4.52.4', True),
        ('1.2.0', '5.23.0', True),
        ('1.3.6', '4.57.6', False),
        ('1.3.6', '5.23.0', True),
    ],
)
def test_switched_off_for_the_pairs_that_break(monkeypatch, mmpretrain, transformers, broken):
    monkeypatch.delitem(sys.modules, 'mmpretrain.models', raising=False)
    monkeypatch.setattr('mmpretrain.__version__', mmpretrain)
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: transformers)
    monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', True)
    assert disable_if_broken() is broken
    assert dependency.WITH_MULTIMODAL is not broken


def test_models_imported_before_are_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmpretrain.models', object())
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: '5.23.0')
    assert not disable_if_broken()
