"""The decoder that tells a phrase from a visual feature (spec reir 2.8)."""

import pytest
import torch
from torch import nn

from mmvg.models.layers.phrase_decoder import PhraseDecoder, reconstruction_targets

DIMS, VOCAB = 8, 5
CELLS = dict(gru=nn.GRUCell, lstm=nn.LSTMCell)


def make(rnn='gru'):
    torch.manual_seed(0)
    return PhraseDecoder(DIMS, VOCAB, rnn), torch.randn(3, DIMS), torch.randn(3, 4, DIMS)


@pytest.mark.parametrize('rnn', ['gru', 'lstm'])
def test_feature_first_then_the_words_step_by_step(rnn):
    decoder, features, words = make(rnn)
    cell = CELLS[rnn](DIMS, DIMS)
    cell.load_state_dict({k.removesuffix('_l0'): v for k, v in decoder.rnn.state_dict().items()})
    found = decoder(features, words)
    assert found.shape == (3, 5, VOCAB)
    for q, (feature, phrase) in enumerate(zip(features, words, strict=True)):
        state = None
        for step, word in enumerate([feature, *phrase]):
            state = cell(word[None], state)
            hidden = state[0] if rnn == 'lstm' else state
            torch.testing.assert_close(found[q, step], decoder.classifier(hidden)[0])


def test_words_behind_the_end_change_nothing_before_it():
    decoder, features, words = make()
    found = decoder(features, words)
    words[1, 2:] = 7.0
    torch.testing.assert_close(decoder(features, words)[1, :3], found[1, :3])
    torch.testing.assert_close(decoder(features, words[:, :2]), found[:, :3])


def test_targets_are_the_words_and_the_end():
    """Anything may stand behind the end; a phrase fills its row, or is shorter."""
    targets, counts = reconstruction_targets(
        torch.tensor([[3, 4, 2], [1, 9, 9], [4, 2, 9]]), torch.tensor([3, 1, 2])
    )
    assert targets.tolist() == [[3, 4, 2, 0], [1, 0, 0, 0], [4, 2, 0, 0]]
    assert counts.int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]


def test_no_phrases_at_all():
    decoder, features, words = make()
    assert decoder(features[:0], words[:0]).shape == (0, 5, VOCAB)
    assert decoder(features[:0], words[:0, :0]).shape == (0, 1, VOCAB)
    targets, counts = reconstruction_targets(torch.zeros(0, 0).long(), torch.zeros(0))
    assert targets.shape == counts.shape == (0, 1)
