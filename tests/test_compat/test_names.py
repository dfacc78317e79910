import sys

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

BASE = 'transvg/transvg_r50_refcoco.py'


def child_of(tmp_path, base: str) -> Config:
    path = tmp_path / 'child.py'
    path.write_text(f'_base_ = {base!r}\nmodel = dict(bbox_head=dict(max_query_len=33))\n')
    return Config.fromfile(path)


def test_config_inherits_by_package_name(repository, tmp_path):
    config = child_of(tmp_path, f'mmvg::{BASE}')
    expected = child_of(tmp_path, str(repository / 'configs' / BASE))
    assert config.model.bbox_head.max_query_len == 33
    # What comes from another package carries the scope in which it is to be built.
    assert config.model.pop('_scope_') == 'mmdet'
    assert config.model == expected.model


def test_inherited_part_is_built_from_mmdets_registry(tmp_path):
    config = child_of(tmp_path, f'mmvg::{BASE}')
    head = MODELS.build({**config.model.bbox_head, '_scope_': config.model._scope_})
    assert type(head).__name__ == 'RegTokenHead'


def test_missing_config_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='transvg/no_such.py'):
        child_of(tmp_path, 'mmvg::transvg/no_such.py')


def test_missing_pkg_resources_names_the_remedy(tmp_path, monkeypatch):
    def without_pkg_resources(cfg_path, filename):
        raise ModuleNotFoundError("No module named 'pkg_resources'", name='pkg_resources')

    monkeypatch.setattr('mmvg.compat.names.mmengine_get_cfg_path', without_pkg_resources)
    with pytest.raises(ModuleNotFoundError, match=r'child\.py.*mmdet::detr.*setuptools<82'):
        child_of(tmp_path, 'mmdet::detr/detr_r50_8xb2-150e_coco.py')


@pytest.mark.filterwarnings('ignore:pkg_resources is deprecated')
def test_other_packages_resolve_as_before(tmp_path):
    if sys.modules['mmengine'].__version__ == '0.10.7':
        pytest.importorskip('pkg_resources')
    assert child_of(tmp_path, 'mmdet::detr/detr_r50_8xb2-150e_coco.py').model.type == 'DETR'
