"""Softmax over a part of the entries (spec reir 2.4, 8.3)."""

import pytest
import torch

from mmvg.models.layers.masked_softmax import masked_softmax


def run(logits, mask, **options):
    return masked_softmax(torch.tensor(logits), torch.tensor(mask, dtype=torch.bool), **options)


@pytest.mark.parametrize('max_over', ['valid', 'zero_filled'])
def test_recorded_values(max_over):
    found = run([0.5, -1.0, 2.0, 0.0], [1, 1, 1, 0], max_over=max_over)
    assert found.tolist() == pytest.approx([0.1752903, 0.0391125, 0.7855964, 0], abs=1e-6)


@pytest.mark.parametrize(
    'logits, max_over, expected',
    [
        ((-50.0, -49.0, 0.0, 0.0), 'zero_filled', (1.9287e-16, 5.2429e-16, 0, 0)),
        ((-50.0, -49.0, 0.0, 0.0), 'valid', (0.2689414, 0.7310586, 0, 0)),
        ((-5.0, -4.0, 0.0, 0.0), 'zero_filled', (0.26893, 0.73103, 0, 0)),
        ((-5.0, -4.0, 0.0, 0.0), 'valid', (0.2689414, 0.7310586, 0, 0)),
    ],
)
def test_attention_vanishes_far_below_zero_only_with_the_zero_filled_maximum(
    logits, max_over, expected
):
    found = run(logits, [1, 1, 0, 0], max_over=max_over)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('max_over', ['valid', 'zero_filled'])
def test_all_entries_take_part_is_a_plain_softmax(max_over):
    logits = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0)) * 3
    found = masked_softmax(logits, torch.ones(3, 4, 7, dtype=torch.bool), max_over=max_over)
    torch.testing.assert_close(found, logits.softmax(-1), atol=2e-6, rtol=0)


@pytest.mark.parametrize('max_over', ['valid', 'zero_filled'])
@pytest.mark.parametrize('masked', [0.0, -1e4, 1e4])
def test_masked_entries_are_zero_and_get_no_gradient(max_over, masked):
    """exp(1e4) overflows; a row without entries is all zeros."""
    logits = torch.tensor([[1.0, 2.0, masked], [masked, masked, masked]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    found = masked_softmax(logits, mask, max_over=max_over)
    assert found[0, 2] == 0 and found[1].tolist() == [0, 0, 0]
    (found * torch.tensor([3.0, -1.0, 5.0])).sum().backward()
    assert logits.grad.isfinite().all() and not logits.grad[1].any()
    if max_over == 'valid':
        assert found[0].sum().item() == pytest.approx(1, abs=1e-5)
        assert logits.grad[0, 2] == 0


@pytest.mark.parametrize('max_over', ['valid', 'zero_filled'])
def test_gradient_is_that_of_a_softmax(max_over):
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0], requires_grad=True)
    factor = torch.tensor([1.0, -2.0, 0.5])
    found = masked_softmax(logits, torch.tensor([True, True, True, False]), max_over=max_over)
    (found[:3] * factor).sum().backward()
    plain = logits.detach()[:3].clone().requires_grad_()
    (plain.softmax(0) * factor).sum().backward()
    torch.testing.assert_close(logits.grad[:3], plain.grad, atol=1e-5, rtol=0)


def test_empty_slots_do_not_raise_the_zero_filled_maximum():
    """Slots that only fill up a batch count for nothing; masked entries that exist count as 0."""
    alone = run([-50.0, -49.0], [1, 1], max_over='zero_filled')
    logits, mask = torch.tensor([-50.0, -49.0, 0.0]), torch.tensor([True, True, False])
    padded = masked_softmax(logits, mask, mask, 'zero_filled')
    assert padded.tolist() == [*alone.tolist(), 0]
    assert alone.sum().item() == pytest.approx(1, abs=1e-5)
    assert masked_softmax(logits, mask, max_over='zero_filled').sum() < 1e-12


def test_a_wrong_maximum_is_refused():
    with pytest.raises(ValueError, match='max_over'):
        run([0.0], [1], max_over='all')
