"""Relation classification by value (spec reir 3.3, 8.3, A28)."""

import pytest
import torch
from mmdet.registry import MODELS
from torch.nn import functional as F

from mmvg.models.losses.relation import class_weights

RARE, FREQUENT = 158, 52291  # the extremes among the release's counts
INDEX = torch.tensor([0, 0, 2, 3, 0])  # image 1 has no relation, image 3 none that is listed


def build(**options):
    return MODELS.build(dict(type='RelationLoss', **options))


def make(categories=6):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, categories, generator=generator, requires_grad=True)
    targets = torch.zeros(5, categories)
    for row, column in ((0, 1), (0, 4), (1, 0), (2, 5), (4, 2), (4, 3), (4, 5)):
        targets[row, column] = 1
    return logits, targets


def test_recorded_class_weights():
    """The first six of the release; the counts follow from them and the extremes."""
    counts = [35294, 6563, 217, 2225, FREQUENT, 544, RARE]
    expected = [1.1137, 1.9542, 8.6028, 3.0143, 1.0, 5.6090, 10.0]
    rarity = [c**-0.5 for c in counts]
    spread = [(r - rarity[4]) / (rarity[6] - rarity[4]) for r in rarity]
    found = class_weights(counts)
    assert found.tolist() == pytest.approx([1 + 9 * s for s in spread], abs=1e-5)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_class_weights_lie_between_one_and_the_largest():
    assert class_weights([100, 400, 1600]).tolist() == pytest.approx([10, 4, 1])
    assert class_weights([100, 400, 1600], 4).tolist() == pytest.approx([4, 2, 1])
    assert class_weights([100, 400, 1600], 1).tolist() == [1, 1, 1]
    assert class_weights([7, 7]).tolist() == [1, 1]


def test_a_category_that_never_occurs_is_refused():
    """Its weight would have no bound, and all others would be 1."""
    with pytest.raises(ValueError, match='class_counts'):
        class_weights([10, 0, 5])


@pytest.mark.parametrize('mode', ['bce', 'ce'])
@pytest.mark.parametrize('counts', [None, [1, 4, 9, 16, 25, 100]])
def test_a_batch_is_a_loop_over_images(mode, counts):
    logits, targets = make()
    found = build(mode=mode, class_counts=counts, loss_weight=0.5)(logits, targets, INDEX, 4)
    weights = torch.ones(6) if counts is None else class_weights(counts)
    for image in range(4):
        losses = []
        for row in range(5):
            if INDEX[row] != image or not targets[row].any():
                continue
            if mode == 'bce':
                p, t = logits[row].sigmoid(), targets[row]
                terms = -(t * p.log() + (1 - t) * (1 - p).log())
                losses.append((weights * terms).mean())
            else:
                first = int(targets[row].nonzero()[0])
                losses.append(-weights[first] * logits[row].log_softmax(0)[first])
        expected = 0.5 * sum(loss.item() for loss in losses) / max(len(losses), 1)
        assert found[image].item() == pytest.approx(expected, abs=1e-5)
    found.sum().backward()
    assert logits.grad.isfinite().all() and not logits.grad[3].any()


def test_without_counts_it_is_the_mean_binary_cross_entropy():
    logits, targets = make()
    found = build()(logits[:2], targets[:2], INDEX[:2], 1)[0]
    expected = F.binary_cross_entropy_with_logits(logits[:2], targets[:2])
    assert found.item() == pytest.approx(expected.item())


@pytest.mark.parametrize('mode', ['bce', 'ce'])
def test_relations_of_an_image_may_be_summed(mode):
    """Eq. 17; image 0 has three that are listed, image 2 has one."""
    logits, targets = make()
    mean, total = (build(mode=mode, norm=n)(logits, targets, INDEX, 4) for n in ('mean', 'sum'))
    torch.testing.assert_close(total, mean * torch.tensor([3.0, 0.0, 1.0, 0.0]))
    if mode == 'ce':
        by_hand = -sum(logits[r].log_softmax(0)[c] for r, c in ((0, 1), (1, 0), (4, 2)))
        torch.testing.assert_close(total[0], by_hand)
    with pytest.raises(ValueError, match="norm must be 'mean' or 'sum'"):
        build(norm='max')


@pytest.mark.parametrize('mode', ['bce', 'ce'])
def test_no_relations_at_all(mode):
    logits, targets = make()
    found = build(mode=mode)(logits[:0], targets[:0], INDEX[:0], 3)
    assert found.tolist() == [0, 0, 0]
    found.sum().backward()
    assert not logits.grad.any()


def test_weights_are_no_part_of_a_checkpoint():
    assert not build(class_counts=[1, 2]).state_dict()


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match='bce'):
        build(mode='focal')
