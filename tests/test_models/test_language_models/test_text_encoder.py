"""Frozen vectors of texts."""

import torch
from mmdet.registry import MODELS
from torch.testing import assert_close

import mmvg  # noqa: F401


def test_hashed_words():
    encoder = MODELS.build(dict(type='HashedWordsEncoder', embed_dims=64))
    red, dog, both, nothing = encoder(['red', 'dog', 'a Red dog!', '...'])
    a = encoder(['a'])[0]
    assert_close(both, (a + red + dog) / 3)
    assert_close(red.norm(), torch.tensor(1.0))
    assert abs(red @ dog) < 0.5
    assert nothing.abs().sum() == 0
    again = MODELS.build(dict(type='HashedWordsEncoder', embed_dims=64))
    assert torch.equal(again(['red'])[0], red)
    assert not list(encoder.parameters()) and not encoder.state_dict()
    assert encoder([]).shape == (0, 64)


def bert():
    config = dict(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='FrozenBertEncoder',
            bert=dict(pretrained=None, config=config),
            tokenizer='builtin:shapes',
            batch_size=2,
        )
    )


def test_bert_is_asked_once_per_text_and_the_rest_of_a_batch_does_not_matter():
    encoder, calls = bert().train(), []
    encoder.bert.register_forward_hook(lambda m, i, o: calls.append(len(i[0])))
    texts = ['red circle', 'the large blue square', 'red circle', 'circle']
    found = encoder(texts)
    assert calls == [2, 1] and torch.equal(found[0], found[2])
    assert torch.equal(encoder(texts), found) and calls == [2, 1]
    alone = bert()(['red circle'])
    assert_close(alone[0], found[0])
    assert not any(p.requires_grad for p in encoder.parameters()) and not encoder.bert.training


def test_vectors_follow_the_weights():
    encoder = bert()
    before = encoder(['circle'])
    state = {k: torch.randn_like(v) for k, v in encoder.state_dict().items()}
    torch.nn.ModuleList([encoder]).load_state_dict({f'0.{k}': v for k, v in state.items()})
    assert not torch.allclose(encoder(['circle']), before)


def test_autocast_leaves_the_vectors_alone():
    texts = ['red circle', 'the large blue square', 'circle']
    expected, encoder = bert()(texts), bert()
    with torch.autocast('cpu', torch.bfloat16):
        mixed = encoder(texts)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert mixed.dtype == torch.float32 and torch.equal(mixed, expected)
    assert torch.equal(encoder(texts), expected)  # what was kept of them


def test_the_last_used_texts_are_kept():
    encoder, asked = bert(), []
    encoder.max_texts, encoder.encode = 2, spy(encoder.encode, asked)
    expected = bert()(['red', 'blue', 'circle'])
    assert_close(encoder(['red', 'blue', 'circle']), expected)  # more than are kept
    encoder(['blue'])
    assert_close(encoder(['red', 'blue']), expected[:2])
    encoder(['circle', 'red'])
    encoder(['blue'])
    assert asked == [['red', 'blue', 'circle'], ['red'], ['circle'], ['blue']]
    assert len(encoder._known) == 2


def spy(function, calls):
    def call(argument):
        calls.append(argument)
        return function(argument)

    return call


def test_vectors_follow_the_type_of_the_weights():
    encoder = bert()
    before = encoder(['red circle'])
    torch.nn.ModuleList([encoder]).bfloat16()
    after = encoder(['red circle'])
    assert after.dtype == torch.float32 and not torch.equal(after, before)
    assert torch.equal(after, bert().bfloat16()(['red circle']))
