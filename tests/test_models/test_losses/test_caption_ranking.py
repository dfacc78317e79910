"""Ranking of images and captions by value (spec reir 3.4, 8.3, A21, A33, A34)."""

import math

import pytest
import torch
from mmdet.registry import MODELS
from torch.nn import functional as F

MODES = ('softmax_hinge', 'hinge', 'infonce')
SCORES = torch.tensor([[1, 0, -1], [0.5, 2, 0], [0, 0.3, 0.1]])


def build(**options):
    return MODELS.build(dict(type='CaptionRankingLoss', **options))


def make(size=7):
    return torch.randn(size, size, generator=torch.Generator().manual_seed(0))


def test_recorded_value():
    assert build()(SCORES).sum().item() == pytest.approx(0.4290096, abs=1e-6)


@pytest.mark.parametrize('size, expected', [(10, 4.0), (40, 16.0), (1, 0.0)])
@pytest.mark.parametrize('mode', ['softmax_hinge', 'hinge'])
def test_equal_scores_cost_the_margin_for_every_row_and_column(mode, size, expected):
    found = build(mode=mode)(torch.full((size, size), 0.3))
    assert found.sum().item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize('size', [1, 10])
def test_equal_scores_cost_the_logarithm_of_their_number(size):
    found = build(mode='infonce')(torch.full((size, size), 0.3))
    assert found.tolist() == pytest.approx([2 * math.log(size)] * size, abs=1e-5)


def plain(scores, mode, negatives, margin=0.2, temperature=0.05):
    """Loss of each image; ``negatives[i]`` are those of i, of the captions and of the images alike."""
    losses = []
    for i, others in enumerate(negatives):
        loss = 0.0
        for row in (scores[i], scores[:, i]):
            row = row[[i, *others]]
            if mode == 'infonce':
                loss += F.cross_entropy(row[None] / temperature, torch.tensor([0])).item()
                continue
            row = row.softmax(0) if mode == 'softmax_hinge' else row
            excess = [max(float(r - row[0]) + margin, 0) for r in row[1:]]
            loss += max(excess, default=0.0)
        losses.append(loss)
    return losses


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('group_size', [None, 3, 1, 20])
def test_a_batch_is_a_loop_over_its_groups(mode, group_size):
    """Seven in groups of three: the last group has one, without negatives."""
    scores = make()
    found = build(mode=mode, group_size=group_size, loss_weight=0.5)(scores)
    of = [i // (group_size or 7) for i in range(7)]
    negatives = [[j for j in range(7) if j != i and of[j] == of[i]] for i in range(7)]
    expected = [0.5 * e for e in plain(scores, mode, negatives)]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    if group_size == 3:
        alone = build(mode=mode, loss_weight=0.5)(scores[3:6, 3:6])
        torch.testing.assert_close(found[3:6], alone)
        assert found[6] == 0


@pytest.mark.parametrize('mode', MODES)
def test_captions_of_the_same_image_are_negatives_or_not(mode):
    scores, image_ids = make(), torch.tensor([4, 2, 4, 3, 2, 4, 1])
    torch.testing.assert_close(build(mode=mode)(scores, image_ids), build(mode=mode)(scores))
    negatives = [[j for j in range(7) if image_ids[j] != image_ids[i]] for i in range(7)]
    found = build(mode=mode, mask_same_image=True)(scores, image_ids)
    assert found.tolist() == pytest.approx(plain(scores, mode, negatives), abs=1e-4)


def test_masking_needs_the_images():
    with pytest.raises(ValueError, match='image_ids'):
        build(mask_same_image=True)(make())


def test_margin_and_temperature():
    expected = plain(SCORES, 'hinge', [[1, 2], [0, 2], [0, 1]], margin=0.7)
    assert build(mode='hinge', margin=0.7)(SCORES).tolist() == pytest.approx(expected)
    expected = plain(SCORES, 'infonce', [[1, 2], [0, 2], [0, 1]], temperature=0.5)
    assert build(mode='infonce', temperature=0.5)(SCORES).tolist() == pytest.approx(expected)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('size', [1, 2, 7])
def test_gradients_are_finite_and_stay_within_groups(mode, size):
    scores = (make(size) * 50).requires_grad_()
    build(mode=mode, group_size=3)(scores).sum().backward()
    group = torch.arange(size) // 3
    assert scores.grad.isfinite().all()
    assert not scores.grad[group[:, None] != group].any()


def test_only_the_hardest_negative_counts():
    scores = torch.tensor([[0.0, 0.1, 0.05], [0.0, 3, 0.0], [0.0, 0, 3]], requires_grad=True)
    build(mode='hinge')(scores)[0].backward()
    # Row: caption 1 is the hardest; column: images 1 and 2 are equally hard.
    assert scores.grad[0].tolist() == [-2, 1, 0]


@pytest.mark.parametrize('mode', MODES)
def test_half_precision_scores(mode):
    scores = make().bfloat16()
    found = build(mode=mode)(scores)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, build(mode=mode)(scores.float()))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match='softmax_hinge'):
        build(mode='triplet')
