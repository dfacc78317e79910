"""The converter of official QRNet checkpoints, against outputs of the official model."""

import json
import shutil

import pytest
import torch
from mmdet.models.backbones.swin import WindowMSA, swin_converter
from mmdet.registry import MODELS

from mmvg.apis import load_config, load_weights

RPN = {
    f'visumodel.rpn_head.{layer}.{end}': torch.zeros(1)
    for layer in ('rpn_conv', 'rpn_cls', 'rpn_reg')
    for end in ('weight', 'bias')
}
POSITION_IDS = {'textmodel.bert.embeddings.position_ids': torch.arange(512)[None]}
FIRST_V = 'qdatt.ChannelGate.mlp.0.decoder.V'


@pytest.fixture(scope='module')
def converter(import_converter):
    return import_converter('qrnet')


@pytest.fixture(scope='module')
def golden(goldens):
    return json.loads((goldens / 'qrnet_swin-s_L20.json').read_text())


@pytest.fixture(scope='module')
def official(golden, light_tensors):
    """All tensors of an official checkpoint by name and shape, light in memory."""
    learned = {n: s for n, (s, _) in golden['names'].items() if not n.endswith('position_index')}
    light = light_tensors(learned)
    index = WindowMSA(3, 3, (7, 7)).relative_position_index
    return {name: light.get(name, index) for name in golden['names']}


def save(content, path):
    torch.save(content, path)
    return str(path)


def measure(model, inputs):
    """The quantities that the golden file records."""
    parts = {'backbone stage': [], 'neck level': []}
    handles = [
        part.register_forward_hook(lambda module, args, out, store=store: store.extend(out))
        for part, store in zip((model.backbone, model.neck), parts.values(), strict=True)
    ]
    with torch.no_grad():
        tokens = model.encode(inputs)
        reg = model.bbox_head.fuse(**tokens)
        boxes = model.bbox_head.box_mlp(reg).sigmoid()
    for handle in handles:
        handle.remove()
    slices = {
        'text[:, 0, :4]': tokens['text_tokens'][:, 0, :4],
        'fusion output at reg token [:, :4]': reg[:, :4],
    }
    for (part, maps), place in zip(parts.items(), (9, 3), strict=True):
        for i, x in enumerate(maps):
            slices[f'{part} {i} [:, :4, {place}, {place}]'] = x[:, :4, place, place]
    return boxes, slices


@pytest.fixture
def scratch(tmp_path):
    """A folder that does not outlive the test: its files are gigabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_official_outputs_are_reproduced(golden, fill, make_golden_inputs, converter, scratch):
    """P10, P20, P22 and P24 with weights of the full size, through the file."""
    official = fill.official_state_dict(golden, golden['salt'])
    source = save(dict(model=official), scratch / 'qrnet_unc.pth')
    del official
    report = converter.convert(source, str(scratch / 'mmvg.pth'))
    assert '688 of 688 tensors converted, text length 20' in report
    assert 'NOTE: first channel layer of 7 of 7 gates: V is not 0' in report

    model_cfg = load_config('qrnet_swin_refcoco').model
    model_cfg.language_model.pretrained = None
    model = MODELS.build(model_cfg).eval()
    load_weights(model, str(scratch / 'mmvg.pth'))
    assert sum(p.numel() for p in model.parameters()) == 273_320_893 - 593_935  # less the RPN head
    boxes, slices = measure(model, make_golden_inputs(golden['L']))
    assert slices.keys() == golden['slices'].keys()
    torch.testing.assert_close(boxes, torch.tensor(golden['boxes']), atol=1e-4, rtol=0)
    for name, values in golden['slices'].items():
        expected = torch.tensor(values)
        error = (slices[name] - expected).abs().max() / expected.abs().max()
        assert error < 1e-3, name


def test_every_tensor_is_consumed_or_listed(official, converter, tmp_path):
    """P11: 718 tensors, and one buffer of older versions of transformers."""
    state = {f'module.{k}': v for k, v in {**official, **RPN, **POSITION_IDS}.items()}
    assert len(state) == 718 + 1
    report = converter.convert(save(state, tmp_path / 'plain.pth'), str(tmp_path / 'out.pth'))
    assert '688 of 719 tensors converted' in report and '31 ignored' in report
    for name in (*RPN, *POSITION_IDS, 'visumodel.backbone.layers.3.blocks.1.attn.relative_'):
        assert f'  module.{name}' in report
    checkpoint = torch.load(tmp_path / 'out.pth', weights_only=True)
    assert checkpoint['meta']['max_query_len'] == 20
    assert checkpoint['meta']['converted_from'] == 'plain.pth'
    model_cfg = converter.model_config('qrnet_swin_refcoco')
    with torch.device('meta'):
        model = MODELS.build(model_cfg)
    learned = {k for k in model.state_dict() if not k.endswith('relative_position_index')}
    assert checkpoint['state_dict'].keys() == learned


def test_swin_is_converted_as_mmdet_does_it(official, import_converter, converter):
    names = import_converter('names')
    renamed, _ = converter.convert_state_dict(official)
    converted = names.reorder_patch_merging(renamed)
    prefix = 'visumodel.backbone.'
    swin = {k.removeprefix(prefix): v for k, v in official.items() if k.startswith(prefix)}
    swin = {k: v for k, v in swin.items() if 'qdatt' not in k}
    expected = swin_converter(swin)
    assert len(expected) == 333 + 24
    for name, tensor in names.add_position_index(converted).items():
        if name in expected:
            assert torch.equal(tensor, expected.pop(name)), name
    assert not expected
    moved = [n for n in renamed if not torch.equal(converted[n], renamed[n])]
    assert len(moved) == 9 and all('.downsample.' in name for name in moved)
    back = names.reorder_patch_merging(converted, inverse=True)
    assert all(torch.equal(back[name], renamed[name]) for name in moved)


@pytest.mark.parametrize('window', [2, 7, 12])
def test_position_index_is_that_of_swin(import_converter, window):
    """The buffer against mmdet's and against its definition by coordinates."""
    names = import_converter('names')
    table = torch.zeros((2 * window - 1) ** 2, 1)
    state = names.add_position_index({'attn.relative_position_bias_table': table})
    index = state['attn.relative_position_index']
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing='ij')
    rows, columns = rows.flatten(), columns.flatten()
    for i in range(window**2):
        for j in range(window**2):
            down, right = rows[i] - rows[j] + window - 1, columns[i] - columns[j] + window - 1
            assert index[i, j] == down * (2 * window - 1) + right
    mmdet = WindowMSA(1, 1, (window, window)).relative_position_index
    assert index.dtype == mmdet.dtype and torch.equal(index, mmdet)


def test_diagnosis_of_the_dead_channel_layers(official, converter):
    """Official training leaves seven V at 0 (spec 2.9, finding 1)."""
    assert sum(FIRST_V in name for name in official) == 7
    state = {k: torch.zeros_like(v) if FIRST_V in k else v for k, v in official.items()}
    line = converter.diagnose(converter.convert_state_dict(state)[0])
    assert line.startswith('first channel layer of 7 gates: V is 0')
    state[f'visumodel.neck.fpn_down.2.{FIRST_V}'] = torch.full((30, 16), 1e-6)
    line = converter.diagnose(converter.convert_state_dict(state)[0])
    assert line.startswith('NOTE: first channel layer of 1 of 7 gates')


NORM = 'visumodel.backbone.layers.2.downsample.norm.weight'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({NORM: None}, r'1 tensors are missing \(backbone.stages.2.downsample.norm.weight\)'),
        ({NORM: torch.ones(3)}, r'downsample.norm.weight is \(3,\), the model has \(1536,\)'),
        ({'text_proj.weight': torch.ones(256, 1024)}, r'is \(256, 1024\), the model has'),
        ({'scale_embed.weight': None}, r'missing \(visual_encoder.level_embed\)'),
        ({'visumodel.neck.fpn_down.3.qdatt.SpatialGate.spatial.decoder.V': RPN}, '1 have no place'),
        ({'visumodel.roi_head.fc.weight': RPN}, 'no part of QRNet: visumodel.roi_head.fc.weight'),
        ({'reg_token.weight': None, 'module.reg_token': RPN}, 'tools/model_converters/transvg.py'),
        ({'vl_pos_embed.weight': None}, 'no complete checkpoint'),
        ({'module.reg_token.weight': RPN}, 'no part of QRNet: module.reg_token.weight'),
    ],
)
def test_other_files_are_refused(official, converter, tmp_path, change, message):
    change = {k: torch.ones(1) if v is RPN else v for k, v in change.items()}
    state = {k: v for k, v in {**official, **change}.items() if v is not None}
    source = save(dict(model=state), tmp_path / 'source.pth')
    with pytest.raises(ValueError, match=message) as caught:
        converter.convert(source, str(tmp_path / 'out.pth'))
    assert source in str(caught.value)
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize(
    'options', [dict(max_query_len=40), dict(config='qrnet_swin_refcocog-u')], ids=str
)
def test_other_text_length_is_refused(official, converter, tmp_path, options):
    source = save(dict(model=official), tmp_path / 'source.pth')
    with pytest.raises(ValueError, match='queries of 20 tokens, not 40.*max_query_len=20'):
        converter.convert(source, str(tmp_path / 'out.pth'), **options)


def test_long_queries_are_recognised(official, converter, tmp_path):
    state = {**official, 'vl_pos_embed.weight': torch.zeros(1, 256).expand(541, 256)}
    source = save(dict(model=state), tmp_path / 'source.pth')
    assert 'text length 40' in converter.convert(source, str(tmp_path / 'out.pth'))
    assert 'text length 40' in converter.convert(
        source, str(tmp_path / 'out.pth'), config='qrnet_swin_refcocog-u'
    )


def test_other_converters_point_here(official, import_converter):
    for name in ('transvg', 'swin_mask_rcnn'):
        with pytest.raises(ValueError, match=r'tools/model_converters/qrnet\.py'):
            import_converter(name).convert_state_dict(official)


def test_command_line(official, converter, call_tool, fail_tool, tmp_path):
    source = save(dict(model=official), tmp_path / 'qrnet.pth')
    output = call_tool('model_converters/qrnet.py', source, tmp_path / 'out.pth')
    assert '688 of 712 tensors converted' in output
    message = fail_tool('model_converters/qrnet.py', tmp_path / 'none.pth', tmp_path / 'out.pth')
    assert 'none.pth does not exist' in message
