"""Normalisation of phrases and boxes, image by image (spec reir 2.1, 2.2, A20)."""

import copy

import pytest
import torch
from torch import nn

from mmvg.models.layers.row_norm import KINDS, RowNorm

CHANNELS = 6
COUNTS = [5, 1, 0, 2, 7]  # rows of each image


def make(kind='image_bn', momentum=0.1):
    """Affine parameters and statistics that are not the neutral ones."""
    norm = RowNorm(CHANNELS, kind, momentum)
    generator = torch.Generator().manual_seed(1)
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5, generator=generator)
    return norm


def make_rows(counts=COUNTS, filling=0.0):
    """Rows of each image, and the same as a batch that is filled up."""
    generator = torch.Generator().manual_seed(0)
    rows = [3 + 2 * torch.randn(n, CHANNELS, generator=generator) for n in counts]
    batch = torch.full((len(counts), max(counts), CHANNELS), filling)
    for image, r in zip(batch, rows, strict=True):
        image[: len(r)] = r
    return rows, batch, torch.arange(max(counts)) < torch.tensor(counts)[:, None]


def image_by_image(norm, rows):
    """As the release does it: one call per image, a single row twice."""
    results = []
    for r in rows:
        if len(r) == 1 and norm.training:
            results.append(norm(r.repeat(2, 1))[:1])
        else:
            results.append(norm(r) if len(r) else r)
    return torch.cat(results)


def reference(row_norm, momentum=0.1):
    norm = nn.BatchNorm1d(CHANNELS, momentum=momentum)
    norm.load_state_dict(row_norm.norm.state_dict())
    return norm


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('momentum', [0.1, 0.4])
def test_batched_is_batch_norm_called_image_by_image(training, momentum):
    """Values, gradients, and the running statistics of several steps."""
    ours = make(momentum=momentum).train(training)
    plain = reference(ours, momentum).train(training)
    for counts in (COUNTS, [2, 2], [1, 3, 1]):
        rows, batch, valid = make_rows(counts)
        rows = [r.requires_grad_() for r in rows]
        batch.requires_grad_()
        found, expected = ours(batch, valid), image_by_image(plain, rows)
        torch.testing.assert_close(found[valid], expected, atol=1e-4, rtol=1e-4)
        assert not found[~valid].any()
        factor = torch.linspace(-1, 2, expected.numel()).view_as(expected)
        ours.zero_grad(), plain.zero_grad()
        (found[valid] * factor).sum().backward()
        (expected * factor).sum().backward()
        grads = torch.cat([r.grad if len(r) else r for r in rows])
        torch.testing.assert_close(batch.grad[valid], grads, atol=1e-4, rtol=1e-4)
        assert not batch.grad[~valid].any()
        for name in ('weight', 'bias'):
            torch.testing.assert_close(
                getattr(ours.norm, name).grad, getattr(plain, name).grad, atol=1e-4, rtol=1e-4
            )
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.norm.state_dict()[name], value, msg=name)
    assert ours.norm.num_batches_tracked == (9 if training else 0)


def test_one_row_gives_the_bias_and_two_rows_give_plus_and_minus_one():
    norm = RowNorm(CHANNELS)
    _, batch, valid = make_rows([1, 2])
    found = norm(100 * batch, valid)  # far above the epsilon
    assert found[0, 0].tolist() == [0] * CHANNELS
    torch.testing.assert_close(found[1].abs(), torch.ones(2, CHANNELS), atol=1e-3, rtol=0)
    torch.testing.assert_close(found[1, 0], -found[1, 1])
    norm.norm.bias.data.fill_(0.7)
    torch.testing.assert_close(norm(batch, valid)[0, 0], torch.full((CHANNELS,), 0.7))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_what_fills_up_a_batch_has_no_influence(kind, training):
    """Zeros come out of empty slots, whatever is in them, and no gradient goes in."""
    results = []
    for filling in (0.0, 9.0):
        norm = make(kind).train(training)
        _, batch, valid = make_rows(filling=filling)
        batch.requires_grad_()
        found = norm(batch, valid)
        (found * torch.linspace(-1, 2, found.numel()).view_as(found)).sum().backward()
        assert found[~valid].eq(0).all() and batch.grad[~valid].eq(0).all()
        assert batch.grad.isfinite().all()
        results.append((found, batch.grad, norm.state_dict()))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize('kind', ['image_bn', 'layernorm', 'none'])
def test_an_image_does_not_depend_on_the_others(kind):
    norm = make(kind)
    rows, batch, valid = make_rows()
    found = norm(batch, valid)
    for i, r in enumerate(rows):
        if len(r):
            alone = norm(r[None], torch.ones(1, len(r), dtype=torch.bool))[0]
            torch.testing.assert_close(found[i, : len(r)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('training', [True, False])
def test_batch_bn_takes_all_rows_as_one_batch(training):
    ours = make('batch_bn').train(training)
    plain = reference(ours).train(training)
    rows, batch, valid = make_rows([1, 4, 1])
    torch.testing.assert_close(ours(batch, valid)[valid], plain(torch.cat(rows)))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.norm.state_dict()[name], value, msg=name)


def test_layernorm_and_none():
    rows, batch, valid = make_rows()
    norm = make('layernorm')
    plain = nn.LayerNorm(CHANNELS)
    plain.load_state_dict(norm.norm.state_dict())
    torch.testing.assert_close(norm(batch, valid)[valid], plain(torch.cat(rows)))
    assert torch.equal(make('none')(batch, valid), batch)


def test_a_batch_without_rows_leaves_the_statistics():
    norm = make()
    before = copy.deepcopy(norm.state_dict())
    found = norm(torch.ones(2, 3, CHANNELS), torch.zeros(2, 3, dtype=torch.bool))
    assert not found.any()
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match='image_bn'):
        RowNorm(CHANNELS, 'group_norm')
