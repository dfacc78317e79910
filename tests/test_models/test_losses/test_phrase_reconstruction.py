"""Cross-entropy of phrases by value (spec reir 3, A12)."""

import math

import pytest
import torch
from mmdet.registry import MODELS
from torch.nn import functional as F

COUNTS = [3, 2, 4, 1, 2]  # words and end of each phrase
IMAGES = [0, 0, 2, 3, 0]  # image 1 has no phrase


def build(**options):
    return MODELS.build(dict(type='PhraseReconstructionLoss', **options))


def make(vocab=6):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, vocab, generator=generator, requires_grad=True)
    targets = torch.randint(0, vocab, (5, 4), generator=generator)
    return logits, targets, torch.arange(4) < torch.tensor(COUNTS)[:, None]


@pytest.mark.parametrize('norm', ['token_mean', 'phrase_sum'])
@pytest.mark.parametrize('weight', [1.0, 0.3])
def test_a_batch_is_a_loop_over_images(norm, weight):
    logits, targets, counts = make()
    found = build(norm=norm, loss_weight=weight)(logits, targets, counts, torch.tensor(IMAGES), 4)
    for image in range(4):
        phrases = [
            F.cross_entropy(logits[q, :n], targets[q, :n], reduction='none')
            for q, n in enumerate(COUNTS)
            if IMAGES[q] == image
        ]
        expected = 0.0
        if phrases and norm == 'token_mean':
            expected = torch.cat(phrases).mean().item()
        elif phrases:
            expected = sum(p.mean() for p in phrases).item()
        assert found[image].item() == pytest.approx(weight * expected, abs=1e-6)
    found.sum().backward()
    assert logits.grad.isfinite().all() and not logits.grad[~counts].any()


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    _, targets, counts = make()
    index = torch.tensor(IMAGES)
    found = build()(torch.zeros(5, 4, 6), targets, counts, index, 4)
    assert found.tolist() == pytest.approx([math.log(6), 0, math.log(6), math.log(6)])
    found = build(norm='phrase_sum')(torch.zeros(5, 4, 6), targets, counts, index, 4)
    assert found.tolist() == pytest.approx([3 * math.log(6), 0, math.log(6), math.log(6)])


@pytest.mark.parametrize('norm', ['token_mean', 'phrase_sum'])
def test_no_phrases_at_all(norm):
    logits, targets, counts = make()
    index = torch.tensor(IMAGES)[:0]
    found = build(norm=norm)(logits[:0], targets[:0], counts[:0], index, 2)
    assert found.tolist() == [0, 0]
    found.sum().backward()
    assert not logits.grad.any()


def test_half_precision_logits_are_summed_in_single_precision():
    logits, targets, counts = make()
    expected = build()(logits, targets, counts, torch.tensor(IMAGES), 4)
    found = build()(logits.bfloat16(), targets, counts, torch.tensor(IMAGES), 4)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match='token_mean'):
        build(norm='mean')
