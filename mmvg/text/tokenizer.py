"""BERT WordPiece tokenisation from a hub name, a local vocabulary or a built-in word list."""

import functools
import os.path as osp
from collections.abc import Sequence

from tokenizers import BertWordPieceTokenizer

_SPECIAL_TOKENS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')


class BertTokenizer:
    """Lower-casing BERT WordPiece: text to ``[CLS] pieces [SEP]`` ids (spec 1.2).

    Built on Hugging Face's ``tokenizers``, whose call is the same under transformers 4 and 5.

    Args:
        vocab (Sequence[str]): Token of each id; must hold [PAD], [UNK], [CLS] and [SEP].
        source (str): Where the vocabulary came from, for error messages.
    """

    def __init__(self, vocab: Sequence[str], source: str = 'vocabulary') -> None:
        ids = {token: i for i, token in enumerate(vocab)}
        missing = [t for t in _SPECIAL_TOKENS[:4] if t not in ids]
        if missing:
            raise ValueError(
                f'{source} is not a BERT vocabulary: {", ".join(missing)} missing; '
                'use the vocab.txt of an uncased BERT or tools/misc/build_vocab.py'
            )
        self._tokenizer = BertWordPieceTokenizer(vocab=ids, lowercase=True)
        self.vocab_size = len(ids)
        self.pad_id, self.unk_id = ids['[PAD]'], ids['[UNK]']
        self.cls_id, self.sep_id = ids['[CLS]'], ids['[SEP]']

    def pieces(self, text: str) -> list[int]:
        """Word piece ids of ``text`` without special tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def num_pieces(self, text: str) -> int:
        """Number of word pieces of ``text`` without special tokens."""
        return len(self.pieces(text))

    def encode(self, text: str, max_len: int | None = None) -> list[int]:
        """``[CLS] pieces [SEP]``; pieces beyond ``max_len - 2`` are cut, as officially."""
        pieces = self.pieces(text)
        if max_len is not None:
            pieces = pieces[: max_len - 2]
        return [self.cls_id, *pieces, self.sep_id]


def _read_vocab(path: str) -> list[str]:
    with open(path, encoding='utf-8') as f:
        return [line.rstrip('\n') for line in f]


def _builtin_vocab(name: str) -> list[str]:
    if name != 'shapes':
        raise ValueError(
            f"unknown built-in vocabulary 'builtin:{name}'; the only one is 'builtin:shapes'"
        )
    from mmvg.datasets.shapes.language import VOCABULARY

    return [*_SPECIAL_TOKENS, *VOCABULARY]


def _hub_vocab(name: str) -> str:
    from transformers.utils import cached_file

    try:
        return cached_file(name, 'vocab.txt')
    except (OSError, ValueError) as e:
        raise FileNotFoundError(
            f"tokenizer '{name}' is neither a folder with vocab.txt, nor a vocab.txt, nor could it be "
            'had from the Hugging Face hub; download vocab.txt of that model once and give its folder '
            '(environment variable MMVG_TEXT_MODEL or config variable text_model), or use '
            "'builtin:shapes' for generated data"
        ) from e


@functools.cache
def build_tokenizer(source: str) -> BertTokenizer:
    """The tokeniser of ``source``; built once per process.

    Args:
        source (str): A folder that holds ``vocab.txt``, the path of such a file,
            ``'builtin:shapes'``, or the name of a BERT on the Hugging Face hub (read from the local
            cache when it is there).

    Raises:
        FileNotFoundError: If no vocabulary can be found; the message says how to provide one.
    """
    if source.startswith('builtin:'):
        return BertTokenizer(_builtin_vocab(source[len('builtin:') :]), source)
    if osp.isdir(source):
        path = osp.join(source, 'vocab.txt')
        if not osp.isfile(path):
            raise FileNotFoundError(
                f'BERT folder {source} has no vocab.txt; copy it there from the model '
                'that the weights belong to'
            )
    elif osp.isfile(source):
        path = source
    elif source.endswith('.txt'):
        raise FileNotFoundError(
            f'vocabulary {source} does not exist; make it from your own expressions with '
            f'tools/misc/build_vocab.py CONFIG --out {source}'
        )
    else:
        path = _hub_vocab(source)
    return BertTokenizer(_read_vocab(path), path)
