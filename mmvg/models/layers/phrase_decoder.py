import torch
import torch.nn.functional as F
from torch import Tensor, nn

RNNS = dict(gru=nn.GRU, lstm=nn.LSTM)


class PhraseDecoder(nn.Module):
    """Tells a phrase from the visual feature that was found for it (ReIR, Eq. 13; spec 2.8).

    The feature is the first input of the recurrent network, the words of the phrase are the
    following ones (teacher forcing, in training and testing alike). Class 0 is the end.

    Args:
        embed_dims (int): Width of feature, word embeddings and hidden state.
        vocab_size (int): Classes, the end included.
        rnn (str): ``'gru'`` (released code) or ``'lstm'`` (paper).
    """

    def __init__(self, embed_dims: int, vocab_size: int, rnn: str = 'gru') -> None:
        super().__init__()
        self.rnn = RNNS[rnn](embed_dims, embed_dims, batch_first=True)
        self.classifier = nn.Linear(embed_dims, vocab_size)

    def forward(self, feature: Tensor, words: Tensor) -> Tensor:
        """Q x C and embedded words Q x L x C -> logits Q x (L + 1) x V."""
        inputs = torch.cat([feature.unsqueeze(1), words.to(feature.dtype)], 1)
        return self.classifier(self.rnn(inputs)[0])


def reconstruction_targets(word_ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Classes Q x (L + 1) of a phrase and its end, and which positions count.

    Args:
        word_ids (Tensor): Q x L, ids of the phrase vocabulary from 1 on; anything beyond the length.
        lengths (Tensor): (Q,).
    """
    targets = F.pad(word_ids, (0, 1))
    steps = torch.arange(targets.shape[1], device=targets.device)
    targets = targets.masked_fill(steps >= lengths[:, None], 0)
    return targets, steps <= lengths[:, None]
