import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmvg.models.layers import DynamicLinear

# Many tokens, few outputs: forming the weight is cheaper than going through the rank.
FORMED, FACTORISED = dict(tokens=200, ins=24, outs=2, rank=5), dict(tokens=7, ins=9, outs=8, rank=3)


def build(ins, outs, rank, v_init=1.0):
    torch.manual_seed(0)
    return DynamicLinear(ins, outs, 6, rank, v_init).double()


def inputs(*shape):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *shape, generator=generator, dtype=torch.double, requires_grad=True)
    text = torch.randn(3, 6, generator=generator, dtype=torch.double, requires_grad=True)
    return x, text


def gradients(layer, out, *tensors):
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    return torch.autograd.grad((out * weights).sum(), [*layer.parameters(), *tensors])


@pytest.mark.parametrize('size', [FORMED, FACTORISED, dict(FACTORISED, tokens=None)])
def test_equals_the_whole_matrix_in_values_and_gradients(plain, size):
    """P16: both orders of the product, and one vector per query, against P(t) = U(t) V."""
    tokens, ins, outs, rank = size['tokens'], size['ins'], size['outs'], size['rank']
    layer = build(ins, outs, rank)
    x, text = inputs(tokens, ins) if tokens else inputs(ins)
    expected = torch.stack(
        [plain.dynamic_linear(layer, a, b) for a, b in zip(x.view(3, -1, ins), text)]
    ).view(*x.shape[:-1], outs)
    out = layer(x, text)
    torch.testing.assert_close(out, expected, atol=1e-11, rtol=1e-11)
    for a, b in zip(gradients(layer, out, x, text), gradients(layer, expected, x, text)):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize('size', [FORMED, FACTORISED])
def test_the_cheaper_order_is_taken(size):
    layer = build(size['ins'], size['outs'], size['rank'])
    x, text = inputs(size['tokens'], size['ins'])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x, text)
    tokens, ins, outs, rank = size.values()
    factorised = tokens * rank * (ins + outs)
    formed = (ins * tokens + ins * rank + rank) * outs
    assert (factorised < formed) == (size is FACTORISED)
    multiplications = 3 * (6 * (ins + 1) * rank + min(factorised, formed))
    assert counter.get_total_flops() == 2 * multiplications


def test_initial_v():
    x, text = inputs(4, 9)
    assert build(9, 8, 3, v_init=0).V.any() == 0
    assert (build(9, 8, 3, v_init=0)(x, text) == 0).all()
    torch.manual_seed(0)
    v = DynamicLinear(4, 500, 6, 30, v_init=0.02).V
    assert abs(v.std() - 0.02) < 1e-3 and abs(v.mean()) < 1e-3


def test_queries_do_not_mix():
    layer = build(9, 8, 3)
    x, text = inputs(4, 9)
    other = text.detach().clone()
    other[1] += 1
    changed = (layer(x, other) - layer(x, text)).abs().amax((1, 2))
    assert changed[0] == 0 and changed[1] > 0.1 and changed[2] == 0
