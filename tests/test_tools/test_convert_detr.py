"""The converter of official DETR checkpoints into initial weights of TransVG."""

import argparse

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmvg  # noqa: F401

VISUAL = ('backbone.', 'neck.', 'visual_encoder.')


@pytest.fixture(scope='module')
def converter(import_converter):
    return import_converter('detr')


def visual_shapes(repository, depth) -> dict[str, torch.Size]:
    cfg = Config.fromfile(str(repository / f'configs/transvg/transvg_r{depth}_refcoco.py')).model
    cfg.language_model.pretrained = None
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        state = MODELS.build(cfg).state_dict()
    return {k: v.shape for k, v in state.items() if k.startswith(VISUAL)}


def to_official(name: str) -> str:
    """DETR's name of a weight, written down independently of the converter."""
    if name.startswith('backbone.'):
        return 'backbone.0.body.' + name[len('backbone.') :]
    if name.startswith('neck.'):
        return 'input_proj.' + name.rsplit('.', 1)[1]
    return 'transformer.encoder.' + name[len('visual_encoder.') :]


def make_official(repository, depth: int = 50) -> dict[str, torch.Tensor]:
    """A DETR whose tensors are small in memory and differ in value."""
    official = {}
    for i, (name, shape) in enumerate(visual_shapes(repository, depth).items()):
        if not name.endswith('num_batches_tracked'):
            official[to_official(name)] = torch.tensor(float(i)).expand(shape)
    detection = {
        'transformer.decoder.layers.5.multihead_attn.in_proj_weight': (768, 256),
        'transformer.decoder.norm.weight': (256,),
        'class_embed.weight': (92, 256),
        'bbox_embed.layers.2.bias': (4,),
        'query_embed.weight': (100, 256),
    }
    official.update({name: torch.zeros(shape) for name, shape in detection.items()})
    return official


@pytest.fixture(scope='module')
def official(repository):
    return make_official(repository)


def save(content, path) -> str:
    torch.save(content, path)
    return str(path)


def test_values_land_on_their_keys(official, converter):
    converted, ignored = converter.convert_state_dict(official)
    assert len(converted) == 339 and len(ignored) == 5
    for name, tensor in converted.items():
        assert tensor is official[to_official(name)]
    assert {'backbone.conv1.weight', 'neck.convs.0.conv.bias'} < converted.keys()
    assert 'visual_encoder.layers.5.self_attn.in_proj_weight' in converted
    prefixed = {f'module.{name}': tensor for name, tensor in official.items()}
    assert converter.convert_state_dict(prefixed)[0].keys() == converted.keys()


def test_result_is_the_visual_branch_of_transvg(official, converter, repository, tmp_path):
    content = dict(model=official, epoch=500, args=argparse.Namespace(backbone='resnet50'))
    source = save(content, tmp_path / 'detr-r50.pth')
    report = converter.convert(source, str(tmp_path / 'out' / 'detr.pth'))
    assert '339 of 344 tensors converted:' in report
    assert '5 ignored (decoder and detection heads' in report
    ignored = [name for name in official if 'encoder' not in name and 'embed' in name]
    assert len(ignored) == 3 and all(f'  {name}' in report for name in ignored)

    checkpoint = torch.load(tmp_path / 'out' / 'detr.pth', weights_only=True)
    assert checkpoint['meta']['converted_from'] == 'detr-r50.pth'
    assert checkpoint['meta']['epoch'] == 500
    cfg = Config.fromfile(str(repository / 'configs/transvg/transvg_r50_refcoco.py')).model
    cfg.language_model.update(pretrained=None, config=dict(num_hidden_layers=1, vocab_size=8))
    model = MODELS.build(cfg)
    missing, unexpected = model.load_state_dict(checkpoint['state_dict'], strict=False)
    assert not unexpected
    assert not [k for k in missing if k.startswith(VISUAL) and 'num_batches' not in k]
    state = model.state_dict()
    for name, tensor in checkpoint['state_dict'].items():
        assert state[name].flatten()[0] == tensor.flatten()[0] == official[to_official(name)].max()


def test_resnet101_is_recognised_and_must_be_complete(converter, repository, tmp_path):
    official = make_official(repository, depth=101)
    del official['backbone.0.body.layer3.22.bn3.weight']
    source = save(dict(model=official), tmp_path / 'r101.pth')
    with pytest.raises(ValueError, match=r'1 tensors are missing \(backbone.layer3.22.bn3.weight'):
        converter.convert(source, str(tmp_path / 'out.pth'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'input_proj.bias': None}, r'1 tensors are missing \(neck.convs.0.conv.bias\)'),
        ({'input_proj.bias': torch.ones(2)}, r'neck.convs.0.conv.bias is \(2,\), the model has'),
        ({'transformer.encoder.norm.weight': torch.ones(256)}, '1 have no place'),
        ({'mask_head.lay1.weight': torch.ones(1)}, 'no part of DETR: mask_head.lay1.weight'),
        ({'vl_pos_embed.weight': torch.ones(1)}, 'model_converters/transvg.py reads'),
    ],
)
def test_incomplete_or_unknown_files_are_refused(official, converter, tmp_path, change, message):
    state = {k: v for k, v in {**official, **change}.items() if v is not None}
    source = save(dict(model=state), tmp_path / 'source.pth')
    with pytest.raises(ValueError, match=message) as caught:
        converter.convert(source, str(tmp_path / 'out.pth'))
    assert source in str(caught.value)
    assert not (tmp_path / 'out.pth').exists()


def test_the_converter_of_transvg_points_here(import_converter, official):
    with pytest.raises(ValueError, match=r'tools/model_converters/detr\.py'):
        import_converter('transvg').convert_state_dict(official)


def test_command_line(run_tool, official, fail_tool, tmp_path, converter):
    source = save(dict(model=official), tmp_path / 'detr.pth')
    output = run_tool('model_converters/detr.py', source, tmp_path / 'out.pth')
    assert '339 of 344 tensors converted' in output
    message = fail_tool('model_converters/detr.py', tmp_path / 'none.pth', tmp_path / 'out.pth')
    assert 'none.pth does not exist' in message
