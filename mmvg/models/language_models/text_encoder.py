import zlib
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from ...text import build_tokenizer
from .bert import BertEncoder


class TextEncoder(BaseModule):
    """Frozen vectors of texts: float32, whatever autocast is on around it.

    Vectors are kept where the module is. There are at most ``max_texts`` of them, the last used: more than
    VidSTG has sentences, and 0.4 GB of BERT's 768 numbers.
    """

    max_texts = 1 << 17

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self._known: OrderedDict[str, Tensor] = OrderedDict()
        self.register_load_state_dict_post_hook(_forget)
        self.register_buffer('_place', torch.empty(0), persistent=False)  # follows .to(device)

    @torch.no_grad()
    def forward(self, texts: list[str]) -> Tensor:
        """N texts -> N x C, float32."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        device = self._place.device
        if new:
            with torch.autocast(device.type, enabled=False):
                vectors = self.encode(new).float().to(device)
            # Copies: a part of a batch would hold the memory of all of it.
            self._known.update(zip(new, (vector.clone() for vector in vectors)))
        for text in texts:
            self._known.move_to_end(text)
        found = [self._known[text] for text in texts]
        while len(self._known) > self.max_texts:
            self._known.popitem(last=False)
        return torch.stack(found) if found else torch.zeros(0, self.embed_dims, device=device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'TextEncoder':
        """Go to another device or type; what was kept does not."""
        self._known.clear()
        return super()._apply(fn, recurse)

    def init_weights(self) -> None:
        """Load pretrained weights, and forget what others made of the texts."""
        super().init_weights()
        self._known.clear()

    @abstractmethod
    def encode(self, texts: list[str]) -> Tensor:
        """Vectors of texts that were not seen before."""


@MODELS.register_module()
class HashedWordsEncoder(TextEncoder):
    """Mean of a fixed random unit vector per word. Needs no vocabulary, no weights and no download.

    Words of other meaning are near orthogonal, and so are all words of near meaning: for learning
    from scratch on small vocabularies. A text without any word is a zero vector.
    """

    def __init__(self, embed_dims: int = 128) -> None:
        super().__init__(embed_dims)

    def encode(self, texts: list[str]) -> Tensor:
        split = [[w for w in map(_bare, text.lower().split()) if w] for text in texts]
        return torch.stack([self._mean(words) for words in split])

    def _mean(self, words: list[str]) -> Tensor:
        if not words:
            return torch.zeros(self.embed_dims)
        return torch.stack([self._vector(word) for word in words]).mean(0)

    def _vector(self, word: str) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
        vector = torch.randn(self.embed_dims, generator=generator)
        return vector / vector.norm()


@MODELS.register_module()
class FrozenBertEncoder(TextEncoder):
    """Mean of BERT's last token states, without those of [CLS] and [SEP].

    Args:
        bert (dict): Arguments of :class:`BertEncoder`.
        tokenizer (str): See :func:`mmvg.text.build_tokenizer`.
        max_tokens (int): Longer texts are cut.
        batch_size (int): Texts at a time.
    """

    def __init__(
        self, bert: dict, tokenizer: str, max_tokens: int = 40, batch_size: int = 256
    ) -> None:
        encoder = BertEncoder(**bert)
        super().__init__(encoder.embed_dims)
        self.bert = encoder.requires_grad_(False)
        self.tokenizer = build_tokenizer(tokenizer)
        self.max_tokens, self.batch_size = max_tokens, batch_size

    def train(self, mode: bool = True) -> 'FrozenBertEncoder':
        """BERT stays in evaluation mode."""
        super().train(mode)
        self.bert.eval()
        return self

    def encode(self, texts: list[str]) -> Tensor:
        self.bert.eval()
        parts = [
            self._encode(texts[i : i + self.batch_size])
            for i in range(0, len(texts), self.batch_size)
        ]
        return torch.cat(parts)

    def _encode(self, texts: list[str]) -> Tensor:
        ids = [torch.tensor(self.tokenizer.encode(text, self.max_tokens)) for text in texts]
        lengths = torch.tensor([len(i) for i in ids], device=self._place.device)
        padded = torch.nn.utils.rnn.pad_sequence(
            ids, batch_first=True, padding_value=self.tokenizer.pad_id
        )
        places = torch.arange(padded.shape[1], device=lengths.device)
        padding = places >= lengths[:, None]
        states = self.bert(padded.to(lengths.device), padding)['text_tokens']
        words = ((places > 0) & (places < lengths[:, None] - 1)).unsqueeze(-1)
        return (states * words).sum(1) / words.sum(1).clamp(min=1)


def _forget(encoder: TextEncoder, _) -> None:
    encoder._known.clear()  # other weights give other vectors


def _bare(word: str) -> str:
    return word.strip('.,;:!?"()')
