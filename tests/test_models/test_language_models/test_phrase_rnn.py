"""The recurrent network that reads captions (spec reir 2.1, A2, A3, A25)."""

import pytest
import torch
from mmdet.registry import MODELS

DIMS = 8
CAPTIONS = [[3, 1, 4, 1, 5], [2, 6], [5, 3, 5, 8, 9, 7]]
SPANS = [[(0, 2), (3, 5), (1, 4)], [(1, 2)], []]


def build(**options):
    torch.manual_seed(0)
    return MODELS.build(dict(type='PhraseRNN', vocab_size=10, embed_dims=DIMS, **options))


def make(captions=CAPTIONS, spans=SPANS):
    """Caption ids, spans and phrase ids, filled up."""
    phrases = [[c[a:b] for a, b in s] for c, s in zip(captions, spans, strict=True)]
    shape = len(captions), max(map(len, spans)), max(len(p) for row in phrases for p in row)
    caption_ids = torch.zeros(shape[0], max(map(len, captions)), dtype=torch.long)
    span_ids, phrase_ids = torch.zeros(*shape[:2], 2).long(), torch.zeros(shape).long()
    for b, caption in enumerate(captions):
        caption_ids[b, : len(caption)] = torch.tensor(caption)
        for n, phrase in enumerate(phrases[b]):
            span_ids[b, n] = torch.tensor(spans[b][n])
            phrase_ids[b, n, : len(phrase)] = torch.tensor(phrase)
    return caption_ids, span_ids, phrase_ids


@pytest.mark.parametrize('rnn', ['gru', 'lstm'])
@pytest.mark.parametrize('pool', ['mean', 'sum'])
@pytest.mark.parametrize('context', ['caption', 'phrase'])
def test_a_batch_is_one_caption_after_the_other(rnn, pool, context):
    """Values, and the gradients of all parameters."""
    ours, plain = (build(rnn=rnn, pool=pool, context=context) for _ in range(2))
    found = ours(*make())

    def read(words):
        return plain.rnn(plain.embedding(torch.tensor([words])))[0][0]

    expected = torch.zeros_like(found['phrases'])
    for b, (caption, spans) in enumerate(zip(CAPTIONS, SPANS, strict=True)):
        states = read(caption)
        if context == 'caption':
            torch.testing.assert_close(found['caption'][b], states.mean(0))
        for n, (start, end) in enumerate(spans):
            of_phrase = states[start:end] if context == 'caption' else read(caption[start:end])
            expected[b, n] = getattr(of_phrase, pool)(0)
    torch.testing.assert_close(found['phrases'], expected)
    if context == 'phrase':
        assert found['caption'] is None
    factor = torch.linspace(-1, 2, expected.numel()).view_as(expected)
    (found['phrases'] * factor).sum().backward()
    (expected * factor).sum().backward()
    for (name, p), q in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


@pytest.mark.parametrize('context', ['caption', 'phrase'])
def test_padding_changes_nothing_and_empty_slots_are_zero(context):
    model = build(context=context)
    found = model(*make())
    assert not found['phrases'][1, 1:].any() and not found['phrases'][2].any()
    for b in range(2):
        alone = model(*make(CAPTIONS[b : b + 1], SPANS[b : b + 1]))
        torch.testing.assert_close(found['phrases'][b, : len(SPANS[b])], alone['phrases'][0])
        if context == 'caption':
            torch.testing.assert_close(found['caption'][b], alone['caption'][0])


def test_padding_learns_nothing():
    model = build()
    found = model(*make())
    (found['phrases'].sum() + found['caption'].sum()).backward()
    grad = model.embedding.weight.grad
    assert not model.embedding.weight[0].any() and not grad[0].any()
    assert grad[1].any() and grad.isfinite().all()


def test_the_context_of_a_phrase_is_what_stands_before_it():
    """It reads from left to right; with context='phrase' the rest of the caption is not read."""
    changed = [[8, 8, 8, 1, 5], *CAPTIONS[1:]]
    behind = [[3, 1, 8, 8, 8], *CAPTIONS[1:]]
    for context, same in (('caption', False), ('phrase', True)):
        model = build(context=context)
        before = model(*make())['phrases'][0]
        assert torch.equal(before[1], model(*make(changed))['phrases'][0, 1]) == same
        torch.testing.assert_close(before[0], model(*make(behind))['phrases'][0, 0])


def test_a_batch_without_phrases():
    model = build()
    ids = torch.tensor(CAPTIONS[:1])
    found = model(ids, torch.zeros(1, 0, 2).long(), torch.zeros(1, 0, 0).long())
    assert found['phrases'].shape == (1, 0, DIMS) and found['caption'].shape == (1, DIMS)


def test_mixed_precision(half_precision):
    for rnn in ('gru', 'lstm'):
        model = build(rnn=rnn)
        expected = model(*make())
        with half_precision():
            found = model(*make())
        for name, value in expected.items():
            torch.testing.assert_close(found[name].float(), value, atol=2e-2, rtol=0)


@pytest.mark.parametrize('options', [dict(pool='max'), dict(context='image'), dict(rnn='rnn')])
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build(**options)
