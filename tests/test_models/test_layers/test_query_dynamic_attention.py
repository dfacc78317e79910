import pytest
import torch

from mmvg.models.layers import QueryDynamicAttention

CHANNELS, TEXT = 12, 8


def build(**kwargs):
    torch.manual_seed(0)
    return QueryDynamicAttention(CHANNELS, TEXT, **{**dict(rank=4, reduction=3), **kwargs}).double()


def tokens(batch=3, length=10, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, CHANNELS, generator=generator, dtype=torch.double)


def texts(seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, TEXT, generator=generator, dtype=torch.double)


@pytest.mark.parametrize('v_init', [0.0, 0.02])
@pytest.mark.parametrize('channel, spatial', [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_each_gate_starts_at_one_half(channel, spatial, v_init):
    """P17; reviving the first channel layer does not change the start (spec 2.9)."""
    gate = build(use_channel=bool(channel), use_spatial=bool(spatial), v_init=v_init)
    x = tokens()
    assert torch.equal(gate(x, texts()), x * 0.5 ** (channel + spatial))
    names = {name.split('.')[0] for name, _ in gate.named_parameters()}
    assert names == {n for n, used in dict(channel_mlp=channel, spatial=spatial).items() if used}


@pytest.mark.parametrize('channel, spatial', [(1, 1), (1, 0), (0, 1)])
def test_equals_its_definition(plain, channel, spatial):
    """Channels before positions, one f for both pools, each query under its own text."""
    gate = plain.randomise(build(use_channel=bool(channel), use_spatial=bool(spatial)), 1.0)
    x, text = tokens(), texts()
    expected = torch.stack([plain.gate(gate, a, b) for a, b in zip(x, text)])
    torch.testing.assert_close(gate(x, text), expected, atol=1e-12, rtol=1e-10)
    assert (expected / x).std() > 0.1  # the gates are well off one half


def test_queries_of_one_image_share_its_map():
    """``image_index`` equals one copy of the map per query, in values and gradients."""
    gate = build(v_init=1.0)
    for p in gate.parameters():
        torch.nn.init.normal_(p, std=0.5)
    index, weights = torch.tensor([0, 1, 1]), tokens(seed=5)
    results = []
    for shared in (True, False):
        x, text = tokens(batch=2).requires_grad_(), texts().requires_grad_()
        out = gate(x, text, index) if shared else gate(x[index], text)
        wanted = [x, text, *gate.parameters()]
        results.append([out, *torch.autograd.grad((out * weights).sum(), wanted)])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


def train(gate, steps):
    """Let the gate imitate a random target; largest gradient of the first channel layer per step."""
    x, text, target = tokens(), texts(), tokens(seed=7)
    optimiser = torch.optim.AdamW(gate.parameters(), 1e-2, weight_decay=0.0)
    largest = []
    for _ in range(steps):
        optimiser.zero_grad()
        (gate(x, text) - target).square().sum().backward()
        first = gate.channel_mlp[0]
        largest.append({n: p.grad.abs().max().item() for n, p in first.named_parameters()})
        optimiser.step()
    return largest


def image_effect(gate):
    """How much the channel gate differs between two images, all else being equal."""
    pooled = [tokens(seed=seed)[:, :2] for seed in (8, 9)]
    a, b = (gate.channel_gate(p, texts()) for p in pooled)
    return (a - b).abs().max().item()


def text_effect(gate):
    a, b = (gate.channel_gate(tokens()[:, :2], texts(seed)) for seed in (8, 9))
    return (a - b).abs().max().item()


def test_the_released_first_layer_never_learns():
    """P18 and spec 2.9, finding 1: the channel gate depends on the text alone, for ever."""
    gate = build(v_init=0.0)
    before = [p.detach().clone() for p in gate.channel_mlp[0].parameters()]
    assert all(value == 0 for step in train(gate, 20) for value in step.values())
    assert all(map(torch.equal, before, gate.channel_mlp[0].parameters()))
    assert image_effect(gate) == 0 and text_effect(gate) > 0.01
    bias = gate.channel_mlp[1](torch.zeros(3, 1, 4).double(), texts())
    torch.testing.assert_close(gate.channel_gate(tokens()[:, :2], texts()), (2 * bias).sigmoid())


def test_a_random_first_v_revives_it_from_the_second_step_on():
    """P18, our form: the second layer's V is still 0 in the first step."""
    gate = build(v_init=0.02)
    first, *later = train(gate, 20)
    assert set(first.values()) == {0.0}
    assert all(value > 0 for step in later for value in step.values())
    assert image_effect(gate) > 1e-3 and text_effect(gate) > 0.01


def test_a_reduction_that_leaves_no_hidden_channel_is_explained():
    with pytest.raises(ValueError, match='reduction 16 leaves nothing of 12 channels'):
        build(reduction=16)
    build(reduction=16, use_channel=False)
