"""The way back to the official code: bit for bit, and only where that code has a counterpart."""

import json

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope

from mmvg.apis import load_config

RECIPE = dict(transvg='transvg_r50_refcoco', qrnet='qrnet_swin_refcoco')
GOLDEN = dict(transvg='transvg_r50_L20.json', qrnet='qrnet_swin-s_L20.json')


@pytest.fixture(scope='module')
def converter(import_converter):
    return import_converter('to_official')


@pytest.fixture(scope='module')
def make_state(light_tensors):
    """What a training with a config saves: names and order of the model, its own index buffers."""

    def make(config, **options):
        with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
            model_cfg = load_config(config, options).model
            model_cfg.language_model.pretrained = None
            state = MODELS.build(model_cfg).state_dict()
        index = {k for k in state if k.endswith('relative_position_index')}
        light = light_tensors({k: tuple(v.shape) for k, v in state.items() if k not in index})
        window = torch.arange(7)
        offset = window[:, None] - window + 6
        buffer = (offset[:, None, :, None] * 13 + offset[None, :, None, :]).reshape(49, 49)
        return {name: light.get(name, buffer) for name in state}

    return make


@pytest.fixture(scope='module')
def states(make_state):
    return {model: make_state(recipe) for model, recipe in RECIPE.items()}


def save(content, path):
    torch.save(content, path)
    return str(path)


def load(path):
    return torch.load(path, weights_only=True)


def assert_same(states, expected):
    assert states.keys() == expected.keys()
    for name, tensor in expected.items():
        assert states[name].dtype == tensor.dtype and torch.equal(states[name], tensor), name


@pytest.mark.parametrize('model', RECIPE)
def test_ours_to_official_to_ours(states, converter, import_converter, tmp_path, model):
    state = dict(states[model])
    half = [name for name in state if name.startswith('bbox_head.fusion.')]
    state.update({name: state[name].bfloat16() for name in half})
    meta = dict(epoch=90, iter=7, experiment_name='x')
    source = save(dict(state_dict=state, meta=meta, optimizer={}), tmp_path / 'epoch_90.pth')
    report = converter.convert(source, str(tmp_path / 'new' / 'official.pth'))
    learned = dict(transvg=622, qrnet=688)[model]
    assert f'{learned} of {len(state)} tensors converted, text length 20' in report
    official = load(tmp_path / 'new' / 'official.pth')
    assert official.keys() == {'model', 'epoch'} and official['epoch'] == 89  # official: from 0
    import_converter(model).convert(
        str(tmp_path / 'new' / 'official.pth'), str(tmp_path / 'ours.pth')
    )
    state = {k: v for k, v in state.items() if not k.endswith('relative_position_index')}
    assert_same(load(tmp_path / 'ours.pth')['state_dict'], state)


@pytest.mark.parametrize('model', RECIPE)
def test_official_to_ours_to_official(
    goldens, states, converter, import_converter, light_tensors, tmp_path, model
):
    names = json.loads((goldens / GOLDEN[model]).read_text())['names']
    official = light_tensors({name: shape for name, (shape, _) in names.items()})
    index = next((v for k, v in states[model].items() if k.endswith('relative_position_index')), 0)
    for name in official:
        if name.endswith('relative_position_index'):
            official[name] = index
    content = dict(model=official, epoch=89, val_accu=0.805)
    source = save(content, tmp_path / 'official.pth')
    import_converter(model).convert(source, str(tmp_path / 'ours.pth'))
    converter.convert(str(tmp_path / 'ours.pth'), str(tmp_path / 'back.pth'))
    back = load(tmp_path / 'back.pth')
    assert (back.pop('epoch'), back.pop('val_accu')) == (89, 0.805) and back.keys() == {'model'}
    assert_same(back['model'], official)
    assert {k: str(v.dtype) for k, v in back['model'].items()} == {
        name: f'torch.{dtype}' for name, (_, dtype) in names.items()
    }
    assert back['model'].keys() == official.keys()


def test_plain_state_dict_of_a_deeper_resnet_is_recognised(make_state, converter, tmp_path):
    state = make_state('transvg_r101_refcocog-u')
    source = save({f'module.{k}': v for k, v in state.items()}, tmp_path / 'plain.pth')
    report = converter.convert(source, str(tmp_path / 'official.pth'))
    assert '877 of 877 tensors converted, text length 40' in report
    assert load(tmp_path / 'official.pth').keys() == {'model'}


EXTRA = torch.ones(1)


@pytest.mark.parametrize(
    ('model', 'change', 'message'),
    [
        ('qrnet', {'backbone.gates.2.spatial.V': None}, r'missing \(backbone.gates.2.spatial.V\)'),
        ('qrnet', {'backbone.norm3.bias': None}, r'1 tensors are missing \(backbone.norm3.bias\)'),
        ('qrnet', {'distiller.weight': EXTRA}, r'have no place \(distiller.weight\).*--config'),
        ('transvg', {'bbox_head.text_proj.bias': EXTRA}, r'is \(1,\), the model has \(256,\)'),
        ('transvg', {'backbone.conv1.weight': None}, r'missing \(backbone.conv1.weight\)'),
        ('transvg', {'bbox_head.vl_pos_embed': None}, 'no complete checkpoint'),
    ],
)
def test_what_does_not_fit_is_refused(states, converter, tmp_path, model, change, message):
    state = {k: v for k, v in {**states[model], **change}.items() if v is not None}
    source = save(dict(state_dict=state), tmp_path / 'source.pth')
    with pytest.raises(ValueError, match=message) as caught:
        converter.convert(source, str(tmp_path / 'out.pth'))
    assert source in str(caught.value)
    assert not (tmp_path / 'out.pth').exists()


def test_models_without_counterpart_are_refused(make_state, converter, tmp_path, repository):
    """With the config of the model at hand, the official code is what does not fit."""
    config = tmp_path / 'rank.py'
    config.write_text(
        f"_base_ = '{repository}/configs/qrnet/qrnet_swin_refcoco.py'\n"
        'model = dict(neck=dict(gate_cfg=dict(rank=8)))\n'
    )
    source = save(make_state(config), tmp_path / 'source.pth')
    with pytest.raises(
        ValueError,
        match="official code has .*'neck.gate_cfg.rank': 30.*this model {'neck.gate_cfg.rank': 8}",
    ):
        converter.convert(source, str(tmp_path / 'out.pth'), config=str(config))
    config.write_text(
        f"_base_ = '{repository}/configs/transvg/transvg_r50_refcoco.py'\n"
        "gn = dict(_delete_=True, type='GN', num_groups=32)\n"
        'model = dict(neck=dict(norm_cfg=gn))\n'
    )
    source = save(make_state(config), tmp_path / 'source.pth')
    with pytest.raises(ValueError, match='no part of the official TransVG: neck.convs.0.gn.weight'):
        converter.convert(source, str(tmp_path / 'out.pth'), config=str(config))


def test_config_decides_what_fits(make_state, states, converter, tmp_path):
    four = {'model.bbox_head.num_layers': 4}
    state = make_state('transvg_r50_refcoco', **four)
    source = save(state, tmp_path / 'source.pth')
    with pytest.raises(ValueError, match='24 tensors are missing'):
        converter.convert(source, str(tmp_path / 'out.pth'))
    config = tmp_path / 'four.py'
    load_config('transvg_r50_refcoco', four).dump(str(config))
    assert '598 of 598' in converter.convert(source, str(tmp_path / 'out.pth'), config=str(config))
    with pytest.raises(ValueError, match='queries of 20 tokens, not 40'):
        source = save(states['transvg'], tmp_path / 'source.pth')
        converter.convert(source, str(tmp_path / 'out.pth'), config='transvg_r50_refcocog-u')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(model={'reg_token.weight': EXTRA}), 'no TransVG .* its tensors are none'),
        ({'visumodel.backbone.0.body.conv1.weight': EXTRA}, 'no TransVG .* are visumodel.backbone'),
        ([EXTRA], 'has no state_dict but a list'),
    ],
)
def test_other_files_are_refused(converter, tmp_path, content, message):
    source = save(content, tmp_path / 'source.pth')
    with pytest.raises(ValueError, match=message) as caught:
        converter.convert(source, str(tmp_path / 'out.pth'))
    assert source in str(caught.value)


def test_command_line(states, converter, call_tool, fail_tool, tmp_path):
    tool = 'model_converters/to_official.py'
    source = save(states['transvg'], tmp_path / 'ours.pth')
    assert '622 of 622' in call_tool(tool, source, tmp_path / 'out.pth')
    assert 'none.pth does not exist' in fail_tool(tool, tmp_path / 'none.pth', 'out.pth')
