"""The converter of Swin detectors into initial weights of QRNet."""

import pytest
import torch
from mmdet.models.backbones.swin import SwinTransformer, swin_converter
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope

from mmvg.apis import load_config

SMALL = dict(embed_dims=32, depths=(2, 1, 2, 1), num_heads=(1, 2, 4, 8), drop_path_rate=0.0)
LAYOUTS = ('original', 'mmdet')


@pytest.fixture(scope='module')
def converter(import_converter):
    return import_converter('swin_mask_rcnn')


@pytest.fixture(scope='module')
def small(repository, tmp_path_factory):
    """Config of a QRNet with a small Swin, as text on disk."""
    path = tmp_path_factory.mktemp('config') / 'small.py'
    path.write_text(
        f"_base_ = '{repository}/configs/qrnet/qrnet_swin_refcoco.py'\n"
        f'model = dict(backbone=dict(**{SMALL}), neck=dict(in_channels=[32, 64, 128, 256]))\n'
    )
    return str(path)


@pytest.fixture(scope='module')
def swin():
    """mmdet's own Swin, with weights whose patch merging tells the four neighbours apart."""
    torch.manual_seed(0)
    model = SwinTransformer(**SMALL)
    model.eval()  # gives None
    for name, p in model.named_parameters():
        if p.dim() > 1:
            p.data.normal_(0, p.shape[-1] ** -0.5 if p.dim() == 2 else 0.1)
        else:
            p.data.normal_(1.0 if name.endswith('weight') else 0.0, 0.3)
    return model


def merge_as_original(tensor):
    """Patch merging from mmdet's order, channel by channel, to the original's, by definition."""
    channels = tensor.shape[-1] // 4
    original = torch.empty_like(tensor)
    for place, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        for c in range(channels):
            source = tensor[..., 4 * c + 2 * row + column]
            original[..., place * channels + c] = source
    return original


def original_names(state):
    """mmdet's Swin by the names of the original code."""
    pairs = (
        ('stages', 'layers'),
        ('patch_embed.projection', 'patch_embed.proj'),
        ('attn.w_msa', 'attn'),
        ('ffn.layers.0.0', 'mlp.fc1'),
        ('ffn.layers.1', 'mlp.fc2'),
    )
    renamed = {}
    for name, tensor in state.items():
        tensor = merge_as_original(tensor) if '.downsample.' in name else tensor
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        renamed[name] = tensor
    return renamed


def detector(swin_state, widths=(32, 64, 128, 256)):
    """State dict of a Mask R-CNN around a Swin."""
    lateral = {}
    for i, width in enumerate(widths):
        lateral[f'neck.lateral_convs.{i}.conv.weight'] = torch.full((256, width, 1, 1), i + 1.0)
        lateral[f'neck.lateral_convs.{i}.conv.bias'] = torch.full((256,), i + 0.5)
    rest = {
        'neck.fpn_convs.0.conv.weight': torch.zeros(1),
        'rpn_head.rpn_conv.weight': torch.zeros(1),
        'roi_head.bbox_head.fc_cls.weight': torch.zeros(1),
        'roi_head.mask_head.conv_logits.bias': torch.zeros(1),
    }
    return {**{f'backbone.{k}': v for k, v in swin_state.items()}, **lateral, **rest}


@pytest.fixture(scope='module')
def detectors(swin):
    state = swin.state_dict()
    original = original_names(state)
    assert {k.removeprefix('backbone.') for k in swin_converter(original)} == state.keys()
    for name, tensor in swin_converter(original).items():
        assert torch.equal(state[name.removeprefix('backbone.')], tensor)
    return dict(original=detector(original), mmdet=detector(state))


def save(content, path):
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_features_are_those_of_mmdet(detectors, swin, small, converter, tmp_path, layout):
    """P19: gates at zero V scale every token by 1/4, which the norms remove."""
    content = dict(state_dict=detectors[layout], meta=dict(epoch=36, CLASSES=('person',)))
    source = save(content, tmp_path / 'detector.pth')
    report = converter.convert(source, str(tmp_path / 'out' / 'swin.pth'), config=small)
    shown = dict(original='original layout', mmdet="MMDetection's layout")[layout]
    learned = sum('relative_position_index' not in name for name in swin.state_dict()) + 8
    assert f'{learned} of {len(detectors[layout])} tensors converted, {shown}:' in report
    assert '10 ignored (heads' in report
    for name in ('neck.fpn_convs.0.conv.weight', 'roi_head.mask_head.conv_logits.bias'):
        assert f'  {name}' in report

    checkpoint = torch.load(tmp_path / 'out' / 'swin.pth', weights_only=True)
    assert checkpoint['meta']['converted_from'] == 'detector.pth'
    model_cfg = load_config(small).model
    model_cfg.language_model.update(pretrained=None, config=dict(num_hidden_layers=1))
    model = MODELS.build(model_cfg).eval()
    missing, unexpected = model.load_state_dict(checkpoint['state_dict'], strict=False)
    assert not unexpected
    visual = [k for k in missing if k.startswith(('backbone.', 'neck.'))]
    assert all('.gates.' in k or k.endswith('position_index') for k in visual)
    assert model.neck.lateral_convs[2].conv.weight.unique() == 3

    torch.manual_seed(1)
    images, text = torch.randn(2, 3, 128, 96), torch.randn(2, 768)
    with torch.no_grad():
        for ours, theirs in zip(model.backbone(images, text), swin(images), strict=True):
            assert theirs.std() > 0.3
            torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)


def test_both_layouts_give_the_same_tensors(detectors, small, converter, tmp_path):
    states = []
    for layout in LAYOUTS:
        source = save(dict(state_dict=detectors[layout]), tmp_path / 'detector.pth')
        converter.convert(source, str(tmp_path / f'{layout}.pth'), config=small)
        states.append(torch.load(tmp_path / f'{layout}.pth', weights_only=True)['state_dict'])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture(scope='module')
def swin_s(light_tensors):
    """A Mask R-CNN with Swin-S, as the recipes expect it."""
    cfg = load_config('qrnet_swin_refcoco').model
    cfg.language_model.pretrained = None
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        state = MODELS.build(cfg).backbone.state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items() if not k.startswith('gates.')}
    return detector(light_tensors(shapes), (96, 192, 384, 768))


def test_swin_s_fits_the_recipes(swin_s, converter, tmp_path):
    state = {f'module.{name}': tensor for name, tensor in swin_s.items()}
    report = converter.convert(save(state, tmp_path / 'plain.pth'), str(tmp_path / 'out.pth'))
    assert '341 of 369 tensors converted' in report
    converted = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert sum(name.startswith('backbone.') for name in converted) == 333
    assert sum(name.startswith('neck.lateral_convs.') for name in converted) == 8


BIAS = 'backbone.norm2.bias'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({BIAS: None}, r'1 tensors are missing \(backbone.norm2.bias\).*--config'),
        ({BIAS: torch.ones(2)}, r'backbone.norm2.bias is \(2,\), the model has \(384,\)'),
        ({'neck.lateral_convs.3.conv.bias': None}, r'missing \(neck.lateral_convs.3.conv.bias\)'),
        ({'backbone.absolute_pos_embed': torch.ones(1)}, 'no part of Mask R-CNN'),
        ({'backbone.norm4.bias': torch.ones(1)}, '1 have no place'),
        (
            {'bbox_head.conv_cls.weight': torch.ones(1)},
            'no part of Mask R-CNN with Swin: bbox_head',
        ),
        ({'neck.gates.0.spatial.V': torch.ones(1)}, 'no part of Mask R-CNN'),
    ],
)
def test_what_does_not_fit_is_refused(swin_s, converter, tmp_path, change, message):
    state = {k: v for k, v in {**swin_s, **change}.items() if v is not None}
    source = save(dict(state_dict=state), tmp_path / 'source.pth')
    with pytest.raises(ValueError, match=message) as caught:
        converter.convert(source, str(tmp_path / 'out.pth'))
    assert source in str(caught.value)
    assert not (tmp_path / 'out.pth').exists()


def test_another_size_needs_its_config(swin_s, detectors, small, converter, tmp_path):
    source = save(dict(state_dict=swin_s), tmp_path / 'swin-s.pth')
    with pytest.raises(ValueError, match='swin-s.pth.*another size'):
        converter.convert(source, str(tmp_path / 'out.pth'), config=small)
    source = save(dict(state_dict=detectors['original']), tmp_path / 'small.pth')
    with pytest.raises(ValueError, match='small.pth.*another size'):
        converter.convert(source, str(tmp_path / 'out.pth'))


def test_other_files_are_refused(converter, tmp_path):
    classifier = dict(model={'layers.0.blocks.0.norm1.weight': torch.ones(96)})
    source = save(classifier, tmp_path / 'swin_small_patch4_window7_224.pth')
    with pytest.raises(ValueError, match='convert_weights=True'):
        converter.convert(source, str(tmp_path / 'out.pth'))


def test_command_line(swin_s, converter, call_tool, fail_tool, tmp_path):
    tool = 'model_converters/swin_mask_rcnn.py'
    source = save(dict(state_dict=swin_s), tmp_path / 'detector.pth')
    assert '341 of 369' in call_tool(tool, source, tmp_path / 'out.pth')
    assert 'none.pth does not exist' in fail_tool(tool, tmp_path / 'none.pth', 'out.pth')
