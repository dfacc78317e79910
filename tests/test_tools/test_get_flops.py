"""FLOPs against closed forms, what K queries share, and the official parameter counts."""

import re
import runpy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmvg.apis import load_config
from mmvg.models import TransVG

LENGTH = 9  # tokens of a query


@pytest.fixture(scope='module')
def tool(repository):
    return runpy.run_path(str(repository / 'tools/analysis_tools/get_flops.py'))


@pytest.fixture(scope='module')
def build(repository):
    """A model of configs/_base_/models and its config."""

    def build(name):
        cfg = Config.fromfile(repository / f'configs/_base_/models/{name}.py').model
        return MODELS.build(cfg).eval(), cfg

    return build


def layer(rows, tokens, width, hidden):
    """Transformer layer that computes ``rows`` of ``tokens``: projections, attention, two layers."""
    projections = rows * width + 2 * tokens * width + rows * width
    return 2 * (projections * width + 2 * rows * tokens * width + 2 * rows * width * hidden)


def test_text_and_fusion_follow_the_closed_form(tool, build):
    model, cfg = build('transvg_tiny')
    one, two = (tool['count_flops'](model, (64, 64), k, LENGTH) for k in (1, 2))
    bert, head = cfg.language_model.config, cfg.bbox_head
    width, hidden = bert.hidden_size, bert.intermediate_size
    text = layer(LENGTH, LENGTH, width, hidden) + 2 * width * width  # and BERT's pooler
    assert (one['text'], two['text']) == (text, 2 * text)

    width, hidden, visual = head.embed_dims, head.feedforward_channels, head.num_visual_tokens
    tokens = 1 + LENGTH + visual
    per_image = 2 * visual * head.visual_channels * width  # projected once for all queries
    per_query = 2 * LENGTH * head.text_channels * width
    per_query += (head.num_layers - 1) * layer(tokens, tokens, width, hidden)
    per_query += layer(1, tokens, width, hidden)  # the last layer gives [REG] only
    per_query += 2 * (2 * width * width + 4 * width)
    assert (one['fusion'], two['fusion']) == (per_image + per_query, per_image + 2 * per_query)
    assert one['other'] == two['other'] == 0


def test_image_of_transvg_is_counted_once(tool, build):
    """Against a second count: every convolution by its output, the encoder by its closed form."""
    model, cfg = build('transvg_tiny')
    convolutions = []

    def note(conv, _, output):
        # Each number of the output takes one multiply-add per weight of its filter.
        convolutions.append(2 * output.numel() * conv.weight[0].numel())

    for part in (model.backbone, model.neck):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note)
    flops = tool['count_flops'](model, (64, 64), 3, LENGTH)
    encoder = cfg.visual_encoder
    tokens = cfg.bbox_head.num_visual_tokens
    expected = layer(tokens, tokens, encoder.embed_dims, encoder.feedforward_channels)
    assert flops['image'] == sum(convolutions) + encoder.num_layers * expected


@pytest.mark.parametrize('window', [4, 7])  # 16 x 16 positions: 7 needs 21 x 21
def test_qrnet_shares_patch_embedding_and_stage_0(tool, repository, window):
    cfg = Config.fromfile(repository / 'configs/_base_/models/qrnet_tiny.py').model
    cfg.backbone.window_size = window
    model = MODELS.build(cfg).eval()
    counts = [tool['count_flops'](model, (64, 64), k, LENGTH)['image'] for k in (1, 2, 5)]
    per_query = counts[1] - counts[0]
    shared = counts[0] - per_query
    assert counts[2] == shared + 5 * per_query and per_query > 0

    width, side = cfg.backbone.embed_dims, 64 // 4
    padded = (-(-side // window) * window) ** 2
    attention = padded * (4 * width * width + 2 * window * window * width)
    feedforward = 2 * side * side * width * cfg.backbone.mlp_ratio * width
    patches = side * side * 3 * 4 * 4 * width
    assert shared == 2 * (patches + cfg.backbone.depths[0] * (attention + feedforward))


@pytest.mark.parametrize(
    'name, parts',
    [
        ('transvg_r50', dict(image=31_869_888, text=109_482_240, fusion=8_393_732)),
        ('transvg_r101', dict(image=50_809_792, text=109_482_240, fusion=8_393_732)),
        ('qrnet_swin-s', dict(image=154_825_386, text=109_482_240, fusion=8_419_332)),
    ],
)
def test_parameters_by_part(tool, build, name, parts):
    """Spec 1.5, 2.6; QRNet without its unused RPN head."""
    with torch.device('meta'):
        model, _ = build(name)
    assert tool['count_parameters'](model) == parts
    total = dict(transvg_r50=149_745_860, transvg_r101=168_685_764).get(name, 272_726_958)
    assert sum(parts.values()) == total


def test_the_table_adds_up(tiny, call_tool):
    output = call_tool('analysis_tools/get_flops.py', tiny, '--num-queries', 3)
    assert '64 x 64 pixels, K = 3 queries of 14 tokens' in output
    rows = re.findall(r'^(image|text|fusion|total) +([\d,.]+(?: +[\d,.]+)+)$', output, re.MULTILINE)
    table = {name: [float(v.replace(',', '')) for v in values.split()] for name, values in rows}
    parts = zip(*(table[name] for name in ('image', 'text', 'fusion')))
    assert table['total'] == pytest.approx([sum(column) for column in parts], abs=2e-3)
    _, per_picture, per_query, flops, macs = table['total']
    assert flops == pytest.approx(per_picture + 3 * per_query, abs=3e-3)
    assert macs == pytest.approx(flops / 2, abs=1e-3)


def test_a_model_may_be_given_by_its_class(tool, tiny):
    cfg = load_config(tiny)
    cfg.model.type = TransVG
    tool['check_model'](cfg)


def test_what_does_not_fit_is_refused(tiny, fail_tool):
    tool = 'analysis_tools/get_flops.py'
    assert 'set num_visual_tokens' in fail_tool(tool, tiny, '--shape', 32, 32)
    assert 'a query has 20 tokens' in fail_tool(tool, tiny, '--query-len', 20)
    assert 'not divisible by 16' in fail_tool(tool, 'qrnet_shapes', '--shape', 56, 56)
    with_no_canvas = ('--cfg-options', 'test_dataloader.dataset.pipeline=[]')
    assert 'give --shape H W' in fail_tool(tool, tiny, *with_no_canvas)


@pytest.mark.parametrize(
    ('config', 'kind'), [('reir_shapes', 'ReIR'), ('vcma_shapes', 'VCMA'), ('fcos_shapes', 'FCOS')]
)
def test_other_models_are_refused(fail_tool, config, kind):
    line = fail_tool('analysis_tools/get_flops.py', config, '--shape', 64, 64, '--query-len', 9)
    assert f'is a config of {kind}; this tool counts TransVG' in line
