"""The converter of official TransVG checkpoints, against outputs of the official model."""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmvg  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'transvg' / 'transvg_r50_refcoco.py'


@pytest.fixture(scope='module')
def converter(import_converter):
    return import_converter('transvg')


@pytest.fixture(scope='module')
def golden(goldens):
    return json.loads((goldens / 'transvg_r50_L20.json').read_text())


@pytest.fixture(scope='module')
def official(golden, fill):
    return fill.official_state_dict(golden, golden['salt'])


@pytest.fixture(scope='module')
def model_cfg():
    cfg = Config.fromfile(CONFIG).model
    cfg.language_model.pretrained = None
    return cfg


def save(content, path):
    torch.save(content, path)
    return str(path)


def test_official_outputs_are_reproduced(
    golden, make_golden_inputs, official, model_cfg, tmp_path, converter
):
    args = argparse.Namespace(max_query_len=20, backbone='resnet50', lr=1e-4)
    source = save(
        dict(
            model=official,
            epoch=89,
            val_accu=0.8,
            args=args,
            optimizer=dict(state={}),
            lr_scheduler=dict(step_size=60),
        ),
        tmp_path / 'TransVG_unc.pth',
    )
    report = converter.convert(source, str(tmp_path / 'out' / 'mmvg.pth'))
    assert '622 of 622 tensors converted, text length 20' in report
    for line in ('visumodel +339', 'textmodel +199', 'vl_transformer +72'):
        assert re.search(line, report)
    assert 'visual branch: 339 tensors of visumodel loaded' in report

    checkpoint = torch.load(tmp_path / 'out' / 'mmvg.pth', weights_only=True)
    assert checkpoint['meta']['converted_from'] == 'TransVG_unc.pth'
    assert checkpoint['meta']['max_query_len'] == 20 and checkpoint['meta']['epoch'] == 89
    model = MODELS.build(model_cfg)
    model.load_state_dict(checkpoint['state_dict'])
    model.eval()
    inputs = make_golden_inputs(golden['L'])
    with torch.no_grad():
        tokens = model.encode(inputs)
        text, visual = tokens['text_tokens'], tokens['visual_tokens']
        measured = {
            'text[:, 0, :4]': text[:, 0, :4],
            'visual encoder token 210 [:, :4]': visual[:, 210, :4],
            'fusion output at reg token [:, :4]': model.bbox_head.fuse(**tokens)[:, :4],
        }
        boxes = model(inputs, mode='tensor')
    for name, values in golden['slices'].items():
        torch.testing.assert_close(measured[name], torch.tensor(values), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(boxes, torch.tensor(golden['boxes']), atol=1e-4, rtol=0)


def test_mapping_consumes_or_lists_every_tensor(official, converter):
    extra = {
        'visumodel.backbone.0.body.bn1.num_batches_tracked': torch.tensor(0),
        'textmodel.bert.embeddings.position_ids': torch.arange(512)[None],
    }
    converted, ignored = converter.convert_state_dict({**official, **extra})
    assert sorted(ignored) == sorted(extra)
    assert len(converted) == len(official)
    # One to one: each official tensor is found under exactly one new name.
    assert {id(t) for t in converted.values()} == {id(t) for t in official.values()}
    assert converted['bbox_head.vl_pos_embed'] is official['vl_pos_embed.weight']
    assert (
        converted['backbone.layer4.2.bn3.running_var']
        is official['visumodel.backbone.0.body.layer4.2.bn3.running_var']
    )
    for position, name in (('0', 'fc'), ('1', 'c_proj')):
        with pytest.raises(ValueError, match=f'1 tensors belong to no part.*{name}'):
            converter.convert_state_dict({**official, f'{name}.{position}.weight': torch.ones(1)})


def test_distributed_prefix_is_stripped(official, converter):
    prefixed = {f'module.{name}': tensor for name, tensor in official.items()}
    assert (
        converter.convert_state_dict(prefixed)[0].keys()
        == converter.convert_state_dict(official)[0].keys()
    )


def test_plain_state_dict_is_converted(official, tmp_path, converter):
    report = converter.convert(save(official, tmp_path / 'plain.pth'), str(tmp_path / 'out.pth'))
    assert '622 of 622' in report
    assert 'epoch' not in torch.load(tmp_path / 'out.pth', weights_only=True)['meta']


def meta(state_dict):
    """The same tensors without their memory: the checks need names and shapes only."""
    return {name: tensor.to('meta') for name, tensor in state_dict.items()}


def changed(official, part):
    state = dict(official)
    if part == 'missing tensor':
        del state['vl_transformer.encoder.layers.5.norm2.bias']
    elif part == 'missing layer':
        for name in [name for name in state if name.startswith('textmodel.bert.encoder.layer.11.')]:
            del state[name]
    elif part == 'shape':
        state['text_proj.weight'] = torch.ones(256, 1024)
    elif part == 'deeper':
        state['visumodel.transformer.encoder.layers.6.norm2.bias'] = torch.ones(256)
    return state


@pytest.mark.parametrize(
    'part, message',
    [
        ('missing tensor', r'1 tensors are missing \(bbox_head.fusion.layers.5.norm2.bias\)'),
        ('missing layer', '16 tensors are missing'),
        ('shape', r'bbox_head.text_proj.weight is \(256, 1024\), the model has \(256, 768\)'),
        ('deeper', '1 have no place'),
    ],
)
def test_incomplete_or_other_models_are_refused(official, model_cfg, part, message, converter):
    converted, _ = converter.convert_state_dict(meta(changed(official, part)))
    with pytest.raises(ValueError, match=message):
        converter.check_against_model(converted, model_cfg)


def test_resnet101_is_recognised_and_needs_all_its_blocks(official, converter):
    state = meta(official)
    state.update(
        {
            name.replace('layer3.1.', f'layer3.{block}.'): tensor
            for name, tensor in meta(official).items()
            if '.layer3.1.' in name
            for block in range(6, 23)
        }
    )
    converted, _ = converter.convert_state_dict(state)
    model_cfg = converter.model_config(converter.transvg_recipe(converted))
    assert model_cfg.backbone.depth == 101
    with DefaultScope.overwrite_default_scope('mmengine'):  # as on the command line
        converter.check_against_model(converted, model_cfg)
    assert len(converted) == 877
    del converted['backbone.layer3.22.bn3.weight']
    with pytest.raises(ValueError, match='layer3.22.bn3.weight'):
        converter.check_against_model(converted, model_cfg)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(max_query_len=40), 'queries of 20 tokens, not 40.*max_query_len=20'),
        (dict(config=str(CONFIG.with_name('transvg_r50_refcocog-u.py'))), 'of 20 tokens, not 40'),
    ],
)
def test_other_text_length_is_refused(official, tmp_path, options, message, converter):
    source = save(dict(model=official), tmp_path / 'source.pth')
    with pytest.raises(ValueError, match=message):
        converter.convert(source, str(tmp_path / 'out.pth'), **options)
    assert not (tmp_path / 'out.pth').exists()


def test_query_length(import_converter):
    query_length = import_converter('official').query_length
    rows = {'bbox_head.vl_pos_embed': torch.ones(441, 256)}
    assert query_length(rows, 400) == 40
    with pytest.raises(ValueError, match='num_visual_tokens'):
        query_length(rows, 1600)
    with pytest.raises(ValueError, match='no complete checkpoint'):
        query_length({}, 400)


def test_a_config_of_another_kind_of_model_is_refused(converter, tmp_path):
    source = save({'reg_token.weight': torch.ones(1, 256)}, tmp_path / 'plain.pth')
    with pytest.raises(ValueError, match='fcos_shapes.py has no model like TransVG'):
        converter.convert(source, 'out.pth', config=str(CONFIG.with_name('fcos_shapes.py')))


class Exploit:
    """Runs a command when it is unpickled without care."""

    def __reduce__(self):
        return os.mkdir, (os.environ['EXPLOIT_TARGET'],)


def test_malicious_files_are_not_executed(tmp_path, monkeypatch, converter):
    monkeypatch.setenv('EXPLOIT_TARGET', str(tmp_path / 'pwned'))
    source = save(dict(model=dict(weight=torch.ones(1)), args=Exploit()), tmp_path / 'bad.pth')
    with pytest.raises(ValueError, match='bad.pth was not loaded: it holds .*plain state dict'):
        converter.convert(source, str(tmp_path / 'out.pth'))
    assert not (tmp_path / 'pwned').exists()


@pytest.mark.parametrize(
    'content, message',
    [
        ([torch.ones(1)], "neither a 'model' entry"),
        (dict(state_dict=dict(weight=torch.ones(1))), 'may already be a checkpoint of mmvg'),
        ({}, "neither a 'model' entry"),
        (dict(model={'transformer.decoder.norm.weight': torch.ones(1)}), 'not those of QRNet'),
    ],
)
def test_other_files_are_refused(tmp_path, content, message, converter):
    with pytest.raises(ValueError, match=message):
        converter.convert(save(content, tmp_path / 'other.pth'), str(tmp_path / 'out.pth'))


def test_missing_and_truncated_files(tmp_path, converter):
    with pytest.raises(FileNotFoundError, match='nowhere.pth does not exist'):
        converter.convert(str(tmp_path / 'nowhere.pth'), str(tmp_path / 'out.pth'))
    whole = Path(save(dict(model=dict(weight=torch.ones(1000))), tmp_path / 'whole.pth'))
    for size in (0, 5, 2000):
        cut = tmp_path / f'cut_{size}.pth'
        cut.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(ValueError, match=f'cut_{size}.pth'):
            converter.convert(str(cut), str(tmp_path / 'out.pth'))


def test_command_line_ends_with_one_line(tmp_path, monkeypatch, capsys, converter):
    monkeypatch.setattr(sys, 'argv', ['transvg.py', str(tmp_path / 'nowhere.pth'), 'out.pth'])
    with pytest.raises(SystemExit):
        converter.main()
    error = capsys.readouterr().err
    assert error.startswith('error: ') and 'nowhere.pth does not exist' in error
    assert error.count('\n') == 1
