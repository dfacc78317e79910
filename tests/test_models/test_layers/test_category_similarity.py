"""Similarity of words and the categories of boxes (spec reir 2.3, 8.3)."""

import pytest
import torch
from mmdet.registry import MODELS
from torch.nn import functional as F

WORDS = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-3.0, 0.0], [0.0, -1.0]])
CATEGORIES = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])


def build(words=WORDS, categories=CATEGORIES, **options):
    return MODELS.build(
        dict(type='CategorySimilarity', words=words, categories=categories, **options)
    )


def run(layer, phrases, labels=(0, 1, 2), **kwargs):
    """Similarities of one image's phrases."""
    return layer(torch.tensor([phrases]), torch.tensor([labels]), **kwargs)[0]


def test_recorded_values():
    expected = [(1 + 0.5**0.5) / 2, 0, 0.5**0.5 / 2]  # 0.8536, 0, 0.3536
    assert run(build(), [[0, 1]])[0].tolist() == pytest.approx(expected)
    # Unknown words and padding, both -1, do not count, wherever they stand.
    for phrase in ([0, -1, 1], [-1, 0, 1], [0, 1, -1]):
        assert run(build(), [phrase])[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize('pool', ['mean_cos', 'cos_mean', 'max'])
def test_a_batch_is_a_loop_over_phrases_and_boxes(pool):
    generator = torch.Generator().manual_seed(0)
    words, categories = (torch.randn(n, 6, generator=generator) for n in (9, 7))
    word_ids = torch.randint(-1, 9, (3, 4, 5), generator=generator)
    word_ids[1, 2] = -1
    labels = torch.randint(0, 7, (3, 8), generator=generator)
    found = build(words, categories, pool=pool)(word_ids, labels)
    assert found.shape == (3, 4, 8) and not found.requires_grad
    for b in range(3):
        for n in range(4):
            known = F.normalize(words[word_ids[b, n][word_ids[b, n] >= 0]])
            for m in range(8):
                category = F.normalize(categories[labels[b, m]], dim=0)
                expected = 0.0
                if len(known):
                    cosines = known @ category
                    expected = dict(
                        mean_cos=cosines.mean(),
                        max=cosines.max(),
                        cos_mean=F.cosine_similarity(known.mean(0), category, dim=0),
                    )[pool]
                    expected = expected.clamp(min=0).item()
                assert found[b, n, m].item() == pytest.approx(expected, abs=1e-6)
    assert 0 <= found.min() and found.max() <= 1 + 1e-6


@pytest.mark.parametrize('pool', ['mean_cos', 'cos_mean', 'max'])
def test_a_phrase_without_known_words_fits_nothing(pool):
    assert run(build(pool=pool), [[-1, -1], [0, -1]]).tolist() == [[0, 0, 0], [1, 0, 0]]


def test_fallback_takes_all_categories_as_equal():
    """A phrase whose best similarity is below the threshold (A7)."""
    phrases = [[-1, -1], [3, -1], [0, 1], [1, 2]]
    plain, found = run(build(), phrases), run(build(fallback=0.4), phrases)
    assert plain.amax(1).tolist() == pytest.approx([0, 0, 0.8536, 0.3536], abs=1e-4)
    assert found[[0, 1, 3]].eq(1).all() and torch.equal(found[2], plain[2])


def test_fallback_looks_at_the_boxes_of_the_image_only():
    """Empty slots of a batch have some label, too."""
    layer = build(fallback=0.4)
    present = torch.tensor([[True, False]])
    assert run(layer, [[0]], (1, 0), box_present=present)[0, 0] == 1
    assert run(layer, [[0]], (1, 0), box_present=torch.ones_like(present))[0].tolist() == [0, 1]


def test_tables_are_no_part_of_a_checkpoint_and_learn_nothing():
    for pool in ('mean_cos', 'cos_mean', 'max'):
        layer = build(pool=pool)
        assert not layer.state_dict() and not list(layer.parameters())


def test_an_unknown_pool_is_refused():
    with pytest.raises(ValueError, match='mean_cos'):
        build(pool='head_noun')


def test_the_best_box_of_a_phrase_may_fit_it_by_one():
    """A7; a phrase that fits nothing stays so, and empty slots are no phrase's best."""
    layer = build(norm_max=True)
    expected = [1, 0, 0.5**0.5 / (1 + 0.5**0.5)]
    assert run(layer, [[0, 1], [-1, -1]]).flatten().tolist() == pytest.approx([*expected, 0, 0, 0])
    present = torch.tensor([[False, True, True]])
    assert run(layer, [[0, 1]], box_present=present)[0, 1:].tolist() == pytest.approx([0, 1])
    # The threshold of the fallback is for what was not yet divided.
    both = build(norm_max=True, fallback=0.9)
    assert run(both, [[0, 1], [0, -1]]).tolist() == [[1, 1, 1], [1, 0, 0]]
