"""Tokenisers for CLIP's text tower: those of open_clip, or any of mmvg."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmvg.checkpoints.messages import first_line
from mmvg.text.tokenizer import build_tokenizer

from .clip_loading import import_open_clip


def build_clip_tokenizer(
    clip: nn.Module, model_name: str | None, source: str | None
) -> '_OpenCLIPTokens | _WordPieceTokens':
    """The tokeniser of a text tower.

    Args:
        clip (nn.Module): open_clip's model.
        model_name (str, optional): Its name, if it has one.
        source (str, optional): What :func:`mmvg.text.tokenizer.build_tokenizer` takes; None: the
            tokeniser that open_clip has for the model.

    Returns:
        Object that turns Q texts into Q x context ids; ``num_tokens(text)`` counts all of a text.

    Raises:
        FileNotFoundError: If files of the tokeniser cannot be had.
        ValueError: If tokeniser and model do not belong together.
    """
    if source is not None:
        return _WordPieceTokens(clip, source)
    return _OpenCLIPTokens(clip, model_name)


class _OpenCLIPTokens:
    def __init__(self, clip: nn.Module, model_name: str | None) -> None:
        open_clip = import_open_clip()
        if model_name is None:
            self._tokenizer = open_clip.SimpleTokenizer(context_length=clip.context_length)
        else:
            try:
                self._tokenizer = open_clip.get_tokenizer(model_name)
            except OSError as e:
                raise FileNotFoundError(
                    f'the tokenizer of CLIP {model_name} is on the Hugging Face hub, which failed '
                    f'({first_line(e)}); run once with network'
                ) from e
        # Others, of the hub, have no such number, and come with their model.
        vocab_size = getattr(self._tokenizer, 'vocab_size', 0)
        if vocab_size > clip.vocab_size:
            raise ValueError(
                f"CLIP's own tokenizer has {vocab_size} tokens, the model {clip.vocab_size}; set "
                "the teacher's tokenizer, e.g. 'builtin:shapes', or text_cfg.vocab_size"
            )
        self.name = f'open_clip {model_name}'
        self.context_length = self._tokenizer.context_length

    def num_tokens(self, text: str) -> int:
        hub = getattr(self._tokenizer, 'tokenizer', None)
        if hub is not None:
            return len(hub(text)['input_ids'])
        return len(self._tokenizer.encode(text)) + 2  # start and end

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return self._tokenizer(list(texts))


class _WordPieceTokens:
    def __init__(self, clip: nn.Module, source: str) -> None:
        self._tokenizer = tokenizer = build_tokenizer(source)
        if tokenizer.vocab_size > clip.vocab_size:
            raise ValueError(
                f"tokenizer '{source}' has {tokenizer.vocab_size} tokens, the CLIP model "
                f'{clip.vocab_size}; set text_cfg.vocab_size to {tokenizer.vocab_size} or more'
            )
        # open_clip's default is the place of the highest id, which is no [SEP] here.
        tower = getattr(clip, 'text', clip)
        pool = getattr(clip, 'text_pool_type', None) or getattr(tower, 'pool_type', None)
        end = getattr(clip, 'text_eos_id', None) or getattr(tower, 'eos_id', None)
        if pool == 'argmax' or (pool == 'eos' and end != tokenizer.sep_id):
            raise ValueError(
                f"the text tower reads its result at pool_type='{pool}', eos_id={end}; for tokenizer "
                f"'{source}' set text_cfg.pool_type='eos', text_cfg.eos_id={tokenizer.sep_id}"
            )
        self.name = f'{source} {tokenizer.vocab_size}'
        self.context_length = clip.context_length

    def num_tokens(self, text: str) -> int:
        return self._tokenizer.num_pieces(text) + 2  # [CLS] and [SEP]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        length = self.context_length
        ids = [self._tokenizer.encode(text, length) for text in texts]
        return torch.tensor([i + [self._tokenizer.pad_id] * (length - len(i)) for i in ids])
