import pytest
import torch

from mmvg.models.layers import PyramidVisualEncoder


def pyramid(queries=3, sizes=((8, 12), (4, 6), (2, 3))):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(queries, 16, *size, generator=generator) for size in sizes]


def build(**kwargs):
    torch.manual_seed(0)
    return PyramidVisualEncoder(**{**dict(embed_dims=16, num_levels=3, num_used=2), **kwargs})


def test_tokens_are_the_last_levels_row_by_row_with_their_embeddings():
    encoder, levels = build(), pyramid()
    index = torch.tensor([0, 0, 1])
    out = encoder(levels, torch.zeros(2, 64, 96, dtype=torch.bool), index)
    tokens = out['visual_tokens']
    assert tokens.shape == (3, 24 + 6, 16) and out['visual_padding_mask'].shape == (3, 30)
    for level, start, row, column, width in ((1, 0, 3, 2, 6), (2, 24, 1, 2, 3)):
        expected = levels[level][:, :, row, column] + encoder.level_embed[level]
        assert torch.equal(tokens[:, start + row * width + column], expected)


@pytest.mark.parametrize('used', [1, 3])
def test_the_number_of_used_levels_counts_from_the_end(used):
    out = build(num_used=used)(pyramid(), torch.zeros(1, 64, 96).bool(), torch.zeros(3).long())
    assert out['visual_tokens'].shape[1] == [0, 6, 30, 126][used]


def test_level_embeddings_start_as_a_standard_normal():
    """Spec 2.6. Unused rows get zeros for a gradient, which distributed training waits for."""
    encoder = build(embed_dims=256, num_levels=5)
    assert encoder.level_embed.shape == (5, 256)
    assert abs(encoder.level_embed.std() - 1) < 0.05
    levels = [torch.zeros(1, 256, 2**i, 2**i) for i in (4, 3, 2, 1, 0)]
    encoder(levels, torch.zeros(1, 64, 64).bool(), torch.tensor([0]))[
        'visual_tokens'
    ].sum().backward()
    rows = encoder.level_embed.grad[:, 0].tolist()
    assert rows == [0, 0, 0, 4, 1]


@pytest.mark.parametrize('left, top, right, bottom', [(0, 81, 640, 559), (37, 101, 500, 555)])
def test_the_top_left_pixel_of_a_cell_decides(left, top, right, bottom):
    """P9: a 640 x 640 mask at 20 x 20 and 10 x 10, centred and translated; masks go by image."""
    masks = torch.zeros(2, 640, 640, dtype=torch.bool)
    masks[1] = True
    masks[1, top:bottom, left:right] = False
    levels = [torch.zeros(3, 16, n, n) for n in (40, 20, 10)]
    out = build()(levels, masks, torch.tensor([1, 0, 1]))['visual_padding_mask']
    expected = torch.cat([masks[1, ::32, ::32].flatten(), masks[1, ::64, ::64].flatten()])
    assert torch.equal(out[0], expected) and torch.equal(out[2], expected)
    assert not out[1].any() and 0 < expected.sum() < 500


def test_another_number_of_levels_is_refused():
    with pytest.raises(ValueError):
        build(num_levels=4)(pyramid(), torch.zeros(1, 64, 96).bool(), torch.zeros(3).long())
