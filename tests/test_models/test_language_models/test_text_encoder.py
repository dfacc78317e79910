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
