import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmvg.text.vocabulary import count_ids

from ..layers.phrase_decoder import RNNS


@MODELS.register_module()
class PhraseRNN(BaseModule):
    """Reads a caption and gives a vector for each of its phrases (ReIR, Eq. 1; spec 2.1).

    The network runs from left to right, so the padding behind a shorter caption changes nothing.

    Args:
        vocab_size (int | str): Number of word ids, 0 (padding) included, or the file of the vocabulary.
        embed_dims (int): Width of word embeddings and of all outputs.
        rnn (str): ``'gru'`` (released code) or ``'lstm'`` (paper).
        pool (str): ``'mean'`` or ``'sum'`` of the states within a phrase (A3).
        context (str): ``'caption'``: states come from reading the caption; ``'phrase'``: from each
            phrase on its own, and there is no vector of the caption (A25).
    """

    def __init__(
        self,
        vocab_size: int | str,
        embed_dims: int = 1024,
        rnn: str = 'gru',
        pool: str = 'mean',
        context: str = 'caption',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if rnn not in RNNS:
            raise ValueError(f'rnn must be one of {tuple(RNNS)}, not {rnn!r}')
        if pool not in ('mean', 'sum'):
            raise ValueError(f"pool must be 'mean' or 'sum', not {pool!r}")
        if context not in ('caption', 'phrase'):
            raise ValueError(f"context must be 'caption' or 'phrase', not {context!r}")
        self.vocab_size = vocab_size = count_ids(vocab_size)
        self.embed_dims = embed_dims
        self.pool = pool
        self.context = context
        self.embedding = nn.Embedding(vocab_size, embed_dims, padding_idx=0)
        self.rnn = RNNS[rnn](embed_dims, embed_dims, batch_first=True)

    def forward(
        self, caption_ids: Tensor, spans: Tensor, phrase_ids: Tensor
    ) -> dict[str, Tensor | None]:
        """Encode captions and their phrases.

        Args:
            caption_ids (Tensor): B x T word ids, 0 behind the end.
            spans (Tensor): B x N x 2, first word of a phrase and the one after its last; (0, 0) for
                an empty slot.
            phrase_ids (Tensor): B x N x L word ids of the phrases, 0 behind the end.

        Returns:
            dict: ``phrases`` B x N x C, 0 in empty slots; ``caption`` B x C, the mean over its words,
            or None with ``context='phrase'``.
        """
        if self.context == 'phrase':
            states = self.rnn(self.embedding(phrase_ids.flatten(0, 1)))[0]
            states = states.view(*phrase_ids.shape, self.embed_dims)
            return dict(phrases=self._pool(states, phrase_ids != 0), caption=None)
        states = self.rnn(self.embedding(caption_ids))[0]
        words = torch.arange(caption_ids.shape[1], device=spans.device)
        inside = (words >= spans[..., :1]) & (words < spans[..., 1:])
        read = (caption_ids != 0).to(states.dtype)
        caption = (states * read.unsqueeze(-1)).sum(1) / read.sum(1, keepdim=True).clamp(min=1)
        return dict(phrases=self._pool(states.unsqueeze(1), inside), caption=caption)

    def _pool(self, states: Tensor, inside: Tensor) -> Tensor:
        """Pool B x (N or 1) x T x C over the words that B x N x T says."""
        inside = inside.to(states.dtype)
        total = (inside.unsqueeze(2) @ states).squeeze(2)
        return total if self.pool == 'sum' else total / inside.sum(-1, keepdim=True).clamp(min=1)
