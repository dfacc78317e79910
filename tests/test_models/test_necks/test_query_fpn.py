import pytest
import torch
import torch.nn.functional as F

from mmvg.models import QueryModulatedFPN

WIDTHS, TEXT = (6, 8, 12, 16), 8


def build(**kwargs):
    torch.manual_seed(0)
    defaults = dict(in_channels=WIDTHS, out_channels=12, text_channels=TEXT)
    neck = QueryModulatedFPN(**{**defaults, **kwargs}, gate_cfg=dict(rank=5, reduction=4))
    for name, p in neck.named_parameters():
        if 'lateral_convs' in name:  # biases that are not 0
            torch.nn.init.normal_(p, std=0.5)
    return neck.double()


def maps():
    generator = torch.Generator().manual_seed(1)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    return [
        torch.randn(3, c, *size, generator=generator, dtype=torch.double)
        for c, size in zip(WIDTHS, sizes)
    ]


def texts():
    return torch.randn(3, TEXT, generator=torch.Generator().manual_seed(2), dtype=torch.double)


def cells(x, reduce):
    """The four strided sub-grids of 2 x 2 cells, reduced."""
    return reduce([x[..., r::2, c::2] for r in (0, 1) for c in (0, 1)])


def top_down(neck, features):
    """The sums of an FPN, before any output convolution."""
    levels = []
    for lateral, x in zip(reversed(neck.lateral_convs), reversed(features)):
        x = torch.einsum('oi,qihw->qohw', lateral.conv.weight[..., 0, 0], x)
        x = x + lateral.conv.bias[:, None, None]
        if levels:
            x = x + levels[0].repeat_interleave(2, -1).repeat_interleave(2, -2)
        levels.insert(0, x)
    return levels


def test_starts_as_fpn_plus_a_quarter_of_the_mean():
    """P22, zero V: both gates are 1/2."""
    neck, features = build(), maps()
    expected = top_down(neck, features)
    for i in range(3):
        expected[i + 1] = expected[i + 1] + 0.25 * F.avg_pool2d(expected[i], 2)
    outs = neck(features, texts())
    assert len(outs) == 5
    for out, wanted in zip(outs, expected):
        torch.testing.assert_close(out, wanted, atol=1e-12, rtol=1e-10)


def test_equals_its_definition(plain):
    """P22, random V: every level is gated by its own gate after what came from below."""
    neck, features, text = plain.randomise(build(), 1.0), maps(), texts()
    expected = top_down(neck, features)
    for i, gate in enumerate(neck.gates):
        height, width = expected[i].shape[-2:]
        gated = [
            plain.gate(gate, x.flatten(1).T, t).T.view(12, height, width)
            for x, t in zip(expected[i], text)
        ]
        mean = cells(torch.stack(gated), sum) / 4
        assert (mean - 0.25 * F.avg_pool2d(expected[i], 2)).abs().max() > 0.1
        expected[i + 1] = expected[i + 1] + mean
    for out, wanted in zip(neck(features, text), expected):
        torch.testing.assert_close(out, wanted, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize('num_outs', [4, 5, 6])
def test_further_levels_subsample_the_last_map(plain, num_outs):
    """P23: what a maximum over one pixel with stride 2 gives."""
    outs = plain.randomise(build(num_outs=num_outs), 1.0)(maps(), texts())
    assert len(outs) == num_outs
    for coarse, fine in zip(outs[4:], outs[3:]):
        assert torch.equal(coarse, F.max_pool2d(fine, 1, stride=2))


def test_initial_weights_are_the_released_ones():
    """Spec 2.4: Xavier for the 1 x 1 convolutions only; gates as PyTorch makes linear layers."""
    torch.manual_seed(0)
    neck = QueryModulatedFPN((96, 192, 384, 768), text_channels=TEXT)
    before = {k: v.clone() for k, v in neck.state_dict().items() if k.startswith('gates')}
    neck.init_weights()
    for width, lateral in zip((96, 192, 384, 768), neck.lateral_convs):
        bound = (6 / (width + 256)) ** 0.5
        assert 0.99 * bound < lateral.conv.weight.abs().max() <= bound
        assert lateral.conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert not lateral.conv.bias.any()
    assert all(torch.equal(neck.state_dict()[k], v) for k, v in before.items())
    bounds = [p.abs().max() for k, p in before.items() if k.endswith('decoder.weight')]
    assert len(bounds) == 9 and all(0.99 < b * TEXT**0.5 <= 1 for b in bounds)


def test_input_maps_are_left_as_they_are():
    """The sums are written in place in the release."""
    features = maps()
    copies = [m.clone() for m in features]
    build()(features, texts())
    assert all(map(torch.equal, features, copies))


def test_too_few_levels_and_too_few_maps_are_refused():
    with pytest.raises(ValueError, match='num_outs 3 is less than the 4 input maps'):
        build(num_outs=3)
    with pytest.raises(ValueError):
        build()(maps()[:3], texts())
