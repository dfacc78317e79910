"""The head of ReIR by value, and each of its options (spec reir 2.2 to 2.10, 8.3, A1 to A32)."""

import math

import pytest
import torch
from mmdet.registry import MODELS
from torch.nn import functional as F

from mmvg.structures import describe_places

ROI, DIMS, VOCAB, RELATIONS = 10, 8, 7, 5


def build(**options):
    torch.manual_seed(0)
    defaults = dict(
        vocab_size=VOCAB, roi_channels=ROI, embed_dims=DIMS, num_relations=RELATIONS, ranking_dims=6
    )
    return MODELS.build(dict(type='CoarseToFineMatchingHead', **{**defaults, **options}))


def make_pairs(own_boxes=False):
    """Two images with up to 3 phrases and 6 boxes: phrases, boxes, similarities, mask."""
    generator = torch.Generator().manual_seed(0)
    phrases = torch.randn(2, 3, DIMS, generator=generator)
    visual = torch.randn(2, 3 if own_boxes else 1, 6, DIMS, generator=generator)
    similarity = (torch.rand(2, 3, 6, generator=generator) - 0.2).clamp(min=0)
    similarity[0, 1] = 0  # a phrase without known words
    similarity[0, 0, 2] = 0
    present = torch.ones(2, 3, 6, dtype=torch.bool)
    present[1, 2:] = False
    present[1, :, 4:] = False
    return phrases, visual, similarity, present


def pairs_of(phrases, visual):
    """[phrase; box] of all pairs."""
    shape = *phrases.shape[:2], visual.shape[2], DIMS
    return torch.cat([phrases.unsqueeze(2).expand(shape), visual.expand(shape)], -1)


def plain_scores(head, scorer, phrases, visual):
    pairs = pairs_of(phrases, visual)
    if scorer == 'linear':
        return F.linear(pairs, head.scorer.weight, head.scorer.bias)[..., 0]
    if scorer == 'mlp':
        hidden = F.linear(pairs, head.scorer.pairs.weight, head.scorer.pairs.bias).relu()
        return head.scorer.out(hidden)[..., 0]
    return (pairs[..., :DIMS] * pairs[..., DIMS:]).sum(-1) / math.sqrt(DIMS)


def plain_attention(scores, similarity, present, combine, mask_zero):
    """Row by row, the softmax of what is kept."""
    attention = torch.zeros_like(scores)
    for place in [(b, n) for b in range(2) for n in range(3)]:
        kept = present[place].clone()
        if mask_zero and combine != 'none':
            kept &= similarity[place] > 0
        logits, fit = scores[place][kept], similarity[place][kept]
        if combine == 'product':
            logits = logits * fit
        elif combine == 'add_log':
            logits = logits + fit.clamp(min=1e-6).log()
        attention[place][kept] = logits.softmax(0)
    return attention


@pytest.mark.parametrize('own_boxes', [True, False])
@pytest.mark.parametrize('scorer', ['linear', 'mlp', 'dot'])
@pytest.mark.parametrize('combine', ['product', 'add_log', 'none'])
@pytest.mark.parametrize('mask_zero', [True, False])
def test_attention_of_every_option(own_boxes, scorer, combine, mask_zero):
    head = build(scorer=scorer, combine=combine, mask_zero=mask_zero)
    phrases, visual, similarity, present = make_pairs(own_boxes)
    scores = plain_scores(head, scorer, phrases, visual)
    expected = plain_attention(scores, similarity, present, combine, mask_zero)
    found = head.match(phrases, visual, similarity, present)['attention']
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not found[~present].any()


def test_the_maximum_of_the_softmax_is_an_option():
    """With all scores far below 0, attention vanishes, or does not (spec 8.3)."""
    for max_over, total in (('zero_filled', 0), ('valid', 1)):
        head = build(max_over=max_over)
        head.scorer.bias.data.fill_(-1e5)
        found = head.match(*make_pairs())['attention'][0, 0]
        assert found.sum().item() == pytest.approx(total, abs=1e-3)


def test_empty_slots_leave_attention_with_strongly_negative_scores():
    """With 'zero_filled' a masked box lets it vanish, but a slot of the batch is no box."""
    head = build(max_over='zero_filled')
    head.scorer.bias.data.fill_(-100)
    phrases, visual, similarity, present = make_pairs()
    similarity = torch.ones_like(similarity)
    found = head.match(phrases, visual, similarity, present)['attention'][1, :2]
    alone = head.match(
        phrases[1:], visual[1:, :, :4], similarity[1:, ..., :4], present[1:, ..., :4]
    )
    torch.testing.assert_close(found[:, :4], alone['attention'][0, :2])
    torch.testing.assert_close(found.sum(1), torch.ones(2), atol=1e-5, rtol=0)


def test_a_linear_scorer_needs_similarities_to_tell_phrases_apart():
    """Spec 8.5, 1."""
    phrases, visual, similarity, _ = make_pairs()
    present = torch.ones(2, 3, 6, dtype=torch.bool)
    for scorer in ('linear', 'mlp', 'dot'):
        for combine in ('none', 'product'):
            head = build(scorer=scorer, combine=combine)
            found = head.match(phrases, visual, similarity + 0.1, present)['attention']
            same = torch.allclose(found, found[:, :1].expand_as(found), atol=1e-6)
            assert same == (scorer == 'linear' and combine == 'none')


@pytest.mark.parametrize('own_boxes', [True, False])
def test_offsets_of_every_option(own_boxes):
    phrases, visual, similarity, present = make_pairs(own_boxes)
    head = build()
    pairs = head.regressor.pairs
    hidden = F.linear(pairs_of(phrases, visual), pairs.weight, pairs.bias).relu()
    found = head.match(phrases, visual, similarity, present)['deltas']
    torch.testing.assert_close(found, head.regressor.out(hidden))
    head = build(regressor='visual')
    found = head.match(phrases, visual, similarity, present)['deltas']
    expected = head.regressor[2](head.regressor[0](visual).relu()).expand(2, 3, 6, 4)
    torch.testing.assert_close(found, expected)
    head = build(regressor='none')
    assert head.match(phrases, visual, similarity, present)['deltas'] is None


def test_normalisation_follows_the_activation():
    """Boxes of no attention count for the statistics; refined boxes may have their own."""
    rois, present = torch.randn(2, 6, ROI), torch.ones(2, 6, dtype=torch.bool)
    head = build()
    linear = head.visual_embedding[0]
    plain = torch.nn.BatchNorm1d(DIMS)
    expected = torch.stack([plain(linear(image).relu()) for image in rois])
    found = head.embed_visual(rois, present)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert found.min() < 0
    torch.testing.assert_close(head.embed_visual(rois, present, refined=True), found)
    assert head.visual_norm.norm.num_batches_tracked == 4
    head = build(separate_norm=True)
    head.embed_visual(rois, present, refined=True)
    assert head.refined_norm.norm.num_batches_tracked == 2
    assert head.visual_norm.norm.num_batches_tracked == 0
    assert build(norm_momentum=0.3).phrase_norm.norm.momentum == 0.3
    head = build(visual_norm='none', phrase_norm='layernorm')
    torch.testing.assert_close(head.embed_visual(rois, present), linear(rois).relu())
    assert head.phrase_norm.kind == 'layernorm'


@pytest.mark.parametrize('spatial, width', [('box5', 5), ('grid98', 98)])
def test_boxes_may_tell_their_place(spatial, width):
    head = build(spatial=spatial, visual_norm='none')
    rois, present = torch.randn(1, 3, ROI), torch.ones(1, 3, dtype=torch.bool)
    boxes, sizes = torch.rand(1, 3, 4) * 30, torch.tensor([[32, 40]])
    place = head.spatial_embedding(describe_places(boxes, sizes, spatial))
    assert head.spatial_embedding[0].in_features == width and place.min() >= 0
    expected = head.visual_embedding(torch.cat([rois, place], -1))
    torch.testing.assert_close(head.embed_visual(rois, present, boxes, sizes), expected)


def test_the_best_few_are_selected():
    attention = torch.tensor([[[0.1, 0.4, 0.2, 0.3], [0.0, 0.0, 0.0, 0.0], [0.5, 0.1, 0.4, 0.9]]])
    present = torch.ones(1, 3, 4, dtype=torch.bool)
    present[0, 2, 3] = False
    top, exists = build(top_k=3).select(dict(attention=attention), present)
    # Equal ones in the order of the proposals; a slot is not chosen while boxes are left.
    assert top.tolist() == [[[1, 3, 2], [0, 1, 2], [0, 2, 1]]] and exists.all()
    top, exists = build(top_k=4).select(dict(attention=attention), present)
    assert top[0, 2].tolist() == [0, 2, 1, 3] and exists[0, 2].tolist() == [True] * 3 + [False]


def test_fewer_boxes_than_candidates():
    top, exists = build(top_k=5).select(
        dict(attention=torch.tensor([[[0.2, 0.8]]])), torch.ones(1, 1, 2, dtype=torch.bool)
    )
    assert top.tolist() == [[[1, 0]]] and exists.all()


@pytest.mark.parametrize('slots', [0, 5, 80, 300])
def test_ties_do_not_depend_on_how_far_a_batch_is_filled_up(slots):
    """A phrase that fits one box, or none: the others are tied at 0."""
    attention = torch.zeros(1, 2, 20)
    attention[0, 0, 13] = 1
    filled = F.pad(attention, (0, slots))
    top, exists = build().select(dict(attention=filled), F.pad(attention == attention, (0, slots)))
    assert top.tolist() == [[[13, 0, 1, 2, 3], [0, 1, 2, 3, 4]]] and exists.all()


def test_the_fused_rating_of_every_option():
    generator = torch.Generator().manual_seed(0)
    coarse = {k: torch.randn(1, 2, 6, generator=generator) for k in ('scores', 'attention')}
    fine = {k: torch.randn(1, 2, 3, generator=generator) for k in ('scores', 'attention')}
    top = torch.tensor([[[5, 0, 2], [1, 3, 4]]])
    chosen = {k: v.gather(2, top) for k, v in coarse.items()}
    expected = dict(
        attention_product=chosen['attention'] * fine['attention'],
        score_product=chosen['scores'] * fine['scores'],
        fine=fine['attention'],
        coarse=chosen['attention'],
    )
    for fuse, value in expected.items():
        torch.testing.assert_close(build(fuse=fuse).fused(coarse, fine, top), value)


def test_relations_are_classified_from_subject_to_object():
    head, feature = build(), torch.randn(2, 3, DIMS)
    relations = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 0]])
    found = head.classify_relations(feature, relations)
    for row, (image, subject, target) in zip(found, relations.tolist(), strict=True):
        pair = torch.cat([feature[image, subject], feature[image, target]])
        torch.testing.assert_close(row, head.relation_classifier(pair))
    assert not torch.allclose(found[0], found[1])
    assert head.classify_relations(feature, relations[:0]).shape == (0, RELATIONS)


def test_ranking_compares_the_mean_over_phrases_with_the_caption():
    head, feature, caption = build(), torch.randn(3, 4, DIMS), torch.randn(3, DIMS)
    counts = [4, 1, 0]
    present = torch.arange(4) < torch.tensor(counts)[:, None]
    found = head.rank(feature, present, caption)
    for i, count in enumerate(counts):
        mean = feature[i, :count].mean(0) if count else torch.zeros(DIMS)
        for j in range(3):
            expected = head.image_proj(mean) @ head.caption_proj(caption[j]) / math.sqrt(6)
            torch.testing.assert_close(found[i, j], expected)


def test_reconstruction_gives_logits_targets_and_counted_positions():
    head = build()
    feature, words = torch.randn(2, DIMS), torch.randn(2, 3, DIMS)
    ids, lengths = torch.tensor([[4, 2, 0], [5, 1, 6]]), torch.tensor([2, 3])
    found = head.reconstruct(feature, words, ids, lengths)
    torch.testing.assert_close(found['logits'], head.decoder(feature, words))
    assert found['targets'].tolist() == [[4, 2, 0, 0], [5, 1, 6, 0]]
    assert found['counts'].int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert isinstance(build(decoder_rnn='lstm').decoder.rnn, torch.nn.LSTM)


def test_number_of_parameters_of_the_release():
    """Spec 8.3: 20 072 301 with 18 caption and 16 phrase words and 88 relations."""
    with torch.device('meta'):
        parts = [
            MODELS.build(dict(type='PhraseRNN', vocab_size=18)),
            MODELS.build(dict(type='RelationGraphNeck')),
            MODELS.build(dict(type='CoarseToFineMatchingHead', vocab_size=16)),
        ]
    assert sum(p.numel() for part in parts for p in part.parameters()) == 20_072_301


def test_parts_that_are_left_out_have_no_parameters():
    head = build(num_relations=0, ranking_dims=0, regressor='none', scorer='dot')
    names = {name.split('.')[0] for name, _ in head.named_parameters()}
    assert names == {'visual_embedding', 'visual_norm', 'phrase_norm', 'decoder'}


@pytest.mark.parametrize(
    'option',
    [
        'spatial',
        'scorer',
        'regressor',
        'combine',
        'recon_weight',
        'fine_conf',
        'fuse',
        'max_over',
        'decoder_rnn',
    ],
)
def test_unknown_options_are_refused(option):
    with pytest.raises(ValueError, match=option):
        build(**{option: 'other'})
    with pytest.raises(ValueError, match='image_bn'):
        build(visual_norm='other')


def test_without_a_scorer_the_category_decides():
    """Attention is the similarity's share; of equal boxes the first is chosen."""
    head = build(scorer='none', combine='add_log')
    phrases, visual, similarity, present = make_pairs()
    similarity[0, 2, 1] = similarity[0, 2, 4] = 2.0
    found = head.match(phrases, visual, similarity, present)
    fit = similarity * present
    shares = fit / fit.sum(-1, keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(found['attention'], shares, atol=1e-5, rtol=0)
    assert head.select(found, present)[0][0, 2, :2].tolist() == [1, 4]
    for combine in ('product', 'none'):
        with pytest.raises(ValueError, match='add_log'):
            build(scorer='none', combine=combine)


def test_the_place_of_a_box_is_told_from_phrase_box_and_picture():
    head = build(predict_places=True)
    phrases, visual, *_ = make_pairs()
    picture = torch.randn(2, DIMS)
    found = head.predict_places(phrases, visual, picture)
    layer, out = head.place_predictor.pairs, head.place_predictor.out
    assert layer.weight.shape == (DIMS // 4, 3 * DIMS) and found.shape == (2, 3, 6, 4)
    triple = torch.cat([phrases[1, 2], visual[1, 0, 5], picture[1]])
    expected = out(F.linear(triple, layer.weight, layer.bias).relu())
    torch.testing.assert_close(found[1, 2, 5], expected)


def test_sizes_may_come_from_files(tmp_path):
    """Ids count from 1, so there is one more than words."""
    vocabulary, categories = tmp_path / 'vocab.json', tmp_path / 'categories.json'
    vocabulary.write_text('["a", "man", "dog"]')
    categories.write_text('{"categories": ["on", "in"], "counts": [5, 4], "parts": "never"}')
    head = build(vocab_size=str(vocabulary), num_relations=str(categories))
    assert head.decoder.classifier.out_features == 4
    assert head.relation_classifier[-1].out_features == 2
    loss = MODELS.build(dict(type='RelationLoss', class_counts=str(categories)))
    assert loss.weights.tolist() == [1, 10]
    with pytest.raises(FileNotFoundError, match='other.json'):
        build(vocab_size=str(tmp_path / 'other.json'))
