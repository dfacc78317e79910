import math

import pytest
import torch
from torch import nn

from mmvg.models.layers import DETRVisualEncoder, TransformerEncoder, downsample_padding


def encoder(**kwargs):
    torch.manual_seed(0)
    return TransformerEncoder(
        embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64, **kwargs
    )


def tokens(batch=2, length=10):
    generator = torch.Generator().manual_seed(1)
    x, pos = torch.randn(2, batch, length, 32, generator=generator)
    mask = torch.zeros(batch, length, dtype=torch.bool)
    mask[0, 7:] = True
    return x, pos, mask


@pytest.mark.parametrize('pre_norm', [False, True])
def test_equals_torchs_layer_with_the_same_weights(pre_norm):
    """With positions 0, torch's own encoder layer is the reference."""
    ours = encoder(dropout=0.0, pre_norm=pre_norm).eval()
    x, pos, mask = tokens()
    expected = x
    for layer in ours.layers:
        reference = nn.TransformerEncoderLayer(
            32, 4, 64, 0.0, batch_first=True, norm_first=pre_norm
        )
        reference.load_state_dict(layer.state_dict())
        expected = reference.train()(expected, src_key_padding_mask=mask)
    out = ours(x, torch.zeros_like(pos), mask)
    assert torch.allclose(out, expected, atol=1e-5)


def test_positions_reach_queries_and_keys_but_not_values():
    """Spec 1.5, against torch's multi-head attention."""
    layer = encoder(dropout=0.0).layers[0]
    x, pos, mask = tokens()
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    attention.load_state_dict(layer.self_attn.state_dict())
    expected = attention(x + pos, x + pos, x, key_padding_mask=mask)[0]
    out = layer.self_attn(x + pos, x + pos, x, ~mask[:, None, None])
    assert torch.allclose(out, expected, atol=1e-6)


def plain_layer(layer, x, pos, mask):
    """One layer of DETR from torch's own parts: positions on queries and keys, norms after."""
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    attention.load_state_dict(layer.self_attn.state_dict())
    x = layer.norm1(x + attention(x + pos, x + pos, x, key_padding_mask=mask)[0])
    return layer.norm2(x + layer.linear2(layer.linear1(x).relu()))


def test_equals_detrs_encoder_with_positions_and_mask():
    """P6: positions enter every layer anew, and no norm follows the last one."""
    model = encoder(dropout=0.0)
    x, pos, mask = tokens()
    expected = x
    for layer in model.layers:
        expected = plain_layer(layer, expected, pos, mask)
    assert torch.allclose(model(x, pos, mask), expected, atol=1e-5)


@pytest.mark.parametrize('pre_norm', [False, True])
def test_computing_the_first_row_only_changes_nothing(pre_norm):
    model = encoder(dropout=0.0, pre_norm=pre_norm)
    x, pos, mask = tokens()
    assert torch.allclose(model(x, pos, mask, rows=1), model(x, pos, mask)[:, :1], atol=1e-6)


def test_padding_is_invisible_and_order_is_only_indexing():
    """Spec 4.2, P7 and P8."""
    model = encoder(dropout=0.0)
    x, pos, mask = tokens()
    out = model(x, pos, mask)
    changed = x.clone()
    changed[0, 7:] += 100
    assert torch.equal(model(changed, pos, mask)[0, :7], out[0, :7])
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    permuted = model(x[:, order], pos[:, order], mask[:, order])
    assert torch.allclose(permuted, out[:, order], atol=1e-5)


def test_checkpointing_gives_the_same_gradients():
    x, pos, mask = tokens()
    gradients = []
    for with_cp in (False, True):
        model = encoder(dropout=0.0, with_cp=with_cp)
        model(x, pos, mask).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients))


def test_xavier_bound_is_that_of_the_stacked_projection():
    """Spec 1.5: sqrt(6 / (3 C + C)), not sqrt(6 / 2 C)."""
    weight = encoder().layers[0].self_attn.in_proj_weight
    bound = (6 / (4 * 32)) ** 0.5
    assert 0.95 * bound < weight.abs().max() <= bound


def test_top_left_pixel_decides_whether_a_token_is_padding():
    """Spec 1.4: 81 px of padding on top mask rows 0 to 2, the last partial row stays."""
    mask = torch.zeros(1, 640, 640, dtype=torch.bool)
    mask[:, :81] = True
    mask[:, 81 + 478 :] = True
    rows = downsample_padding(mask, (20, 20))[0, :, 0]
    assert rows.tolist() == [i * 32 < 81 or i * 32 >= 559 for i in range(20)]
    assert rows[:3].all() and not rows[17]


def test_a_sliver_between_cell_corners_keeps_a_token():
    mask = torch.ones(2, 64, 64, dtype=torch.bool)
    mask[0, 5:9, 40:60] = False
    mask[1] = False
    tokens_mask = downsample_padding(mask, (2, 2))
    assert tokens_mask[0].tolist() == [[True, False], [True, True]]
    assert not tokens_mask[1].any()


def test_visual_encoder_gives_tokens_row_by_row():
    encoder_ = DETRVisualEncoder(embed_dims=32, num_layers=0, num_heads=4, feedforward_channels=8)
    features = torch.arange(2 * 32 * 6.0).view(2, 32, 2, 3)
    out = encoder_(features, torch.zeros(2, 64, 96, dtype=torch.bool))
    assert out['visual_tokens'].shape == (2, 6, 32)
    assert torch.equal(out['visual_tokens'][0, 4], features[0, :, 1, 1])
    assert out['visual_padding_mask'].shape == (2, 6) and not out['visual_padding_mask'].any()


def test_sine_positions_count_valid_tokens_only():
    """P5: the same picture gets the same positions wherever it lies on the canvas."""
    positions = DETRVisualEncoder(embed_dims=32, num_layers=0).positions
    plain = positions(torch.zeros(1, 4, 5, dtype=torch.bool))
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    mask[:, 3:7, 2:7] = False
    assert torch.allclose(positions(mask)[..., 3:7, 2:7], plain, atol=1e-6)
    y = torch.tensor(2 / (4 + 1e-6) * 2 * torch.pi)
    assert torch.allclose(plain[0, :2, 1, 0], torch.stack([y.sin(), y.cos()]), atol=1e-6)


def plain_positions(mask, channels):
    """DETR's sine positions of one mask, number by number (spec 1.5)."""
    seen, out = ~mask, torch.zeros(2 * channels, *mask.shape)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            counts = (seen[: y + 1, x], seen[:, x]), (seen[y, : x + 1], seen[y])
            for axis, (until, line) in enumerate(counts):
                angle = 2 * math.pi * until.sum().item() / (line.sum().item() + 1e-6)
                for i in range(channels):
                    wave = math.sin if i % 2 == 0 else math.cos
                    place = wave(angle / 10000 ** (2 * (i // 2) / channels))
                    out[axis * channels + i, y, x] = place
    return out


def test_sine_positions_equal_their_definition():
    """P5: rectangles anywhere; their rows and columns outside are padding throughout."""
    positions = DETRVisualEncoder(embed_dims=32, num_layers=0).positions
    generator = torch.Generator().manual_seed(3)
    masks = torch.ones(4, 9, 7, dtype=torch.bool)
    for mask in masks:
        top, left = torch.randint(0, 4, (2,), generator=generator)
        height, width = torch.randint(1, 5, (2,), generator=generator)
        mask[top : top + height, left : left + width] = False
    expected = torch.stack([plain_positions(mask, 16) for mask in masks])
    assert torch.allclose(positions(masks), expected, atol=2e-6)
