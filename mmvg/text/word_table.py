"""Vectors of words and of detector categories, stored together as a .safetensors file."""

import json
import os
import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from . import lexicon
from .chunks import head_position
from .vocabulary import tokenize

_FUNCTION_WORDS = (
    lexicon.DETERMINERS | lexicon.PRONOUNS | lexicon.PREPOSITIONS | lexicon.CONJUNCTIONS
)
_TENSORS = ('words', 'categories')
_REMEDY = (
    'make it with tools/misc/build_reir_text.py CONFIG {} --vectors VECTORS --categories PROPOSALS '
    '(the proposal file, whose class names in their order are the categories)'
)


@dataclass
class WordTable:
    """What :class:`CategorySimilarity` compares (spec reir 1.6).

    Args:
        words (Tensor): W x D, one row per word of ``word_list``.
        categories (Tensor): C x D, one row per category of ``category_list``.
        word_list (list[str]): Words, in lower case.
        category_list (list[str]): Names of the detector's categories, in the order of its labels.
        info (dict): How the table was made.
    """

    words: Tensor
    categories: Tensor
    word_list: list[str]
    category_list: list[str]
    info: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = [tuple(t.shape) for t in (self.words, self.categories)]
        expected = len(self.word_list), len(self.category_list)
        if any(len(s) != 2 for s in sizes) or sizes[0][1] != sizes[1][1]:
            raise ValueError(f'words and categories must be W x D and C x D, got {sizes}')
        if (sizes[0][0], sizes[1][0]) != expected:
            raise ValueError(
                f'{sizes[0][0]} word and {sizes[1][0]} category vectors for {expected[0]} words and '
                f'{expected[1]} categories'
            )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.word_list)}

    def encode(self, text: str, keep: str = 'all') -> list[int]:
        """Row of each word of a phrase, -1 for words without a vector.

        Args:
            text (str): A phrase.
            keep (str): ``'all'`` words, as in the release; ``'content'``: not articles, numbers,
                pronouns and prepositions; ``'head'``: the head noun only. Other words are -1 (A5).
        """
        words = tokenize(text)
        if keep == 'head':
            kept = {head_position(words)} if words else set()
        elif keep == 'content':
            kept = {i for i, word in enumerate(words) if word not in _FUNCTION_WORDS}
        elif keep == 'all':
            kept = set(range(len(words)))
        else:
            raise ValueError(f"keep must be 'all', 'content' or 'head', not {keep!r}")
        return [self._rows.get(w, -1) if i in kept else -1 for i, w in enumerate(words)]

    def dumps(self) -> bytes:
        """Content of the file that :func:`load_word_table` reads."""
        lists = dict(words=self.word_list, categories=self.category_list, info=self.info)
        tensors = {
            name: getattr(self, name).detach().float().contiguous().cpu() for name in _TENSORS
        }
        return save(tensors, {k: json.dumps(v, ensure_ascii=False) for k, v in lists.items()})


def load_word_table(path: str | os.PathLike) -> WordTable:
    """Read a word table.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or lacks the tensors ``words`` and ``categories`` or their lists.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'word table {path} does not exist; {_remedy(path)}')
    try:
        with safe_open(str(path), 'pt') as file:
            missing = sorted(set(_TENSORS) - set(file.keys()))
            if missing:
                raise ValueError(f'it has no tensor {" and no ".join(missing)}')
            metadata = file.metadata() or {}
            lists = {k: json.loads(metadata[k]) for k in (*_TENSORS, 'info') if k in metadata}
            if not set(_TENSORS) <= lists.keys():
                raise ValueError('it does not say which words and categories its rows are')
            words, categories = (file.get_tensor(name) for name in _TENSORS)
            return WordTable(
                words, categories, lists['words'], lists['categories'], lists.get('info', {})
            )
    except (SafetensorError, ValueError) as e:
        raise ValueError(f'{path} is not a word table: {e}; {_remedy(path)}') from e


def _remedy(path: str | os.PathLike) -> str:
    return _REMEDY.format(osp.dirname(path) or '.')


def count_table_categories(table: int | str) -> int:
    """Number of categories: as given, or that of a word table."""
    return len(load_word_table(table).category_list) if isinstance(table, str) else table


def category_name(line: str) -> str:
    """What a category goes by: the first of its names, in lower case; 'Man,guy' is 'man'."""
    return line.split(',')[0].strip().lower()


def compose(vectors: Sequence[Tensor], how: str) -> Tensor:
    """One vector of several: their ``'mean'``, the ``'first'``, or the largest per dimension
    (``'max'``) (A6)."""
    if how == 'first':
        return vectors[0]
    stacked = torch.stack(list(vectors))
    if how == 'mean':
        return stacked.mean(0)
    if how == 'max':
        return stacked.amax(0)
    raise ValueError(f"label_compose must be 'mean', 'first' or 'max', not {how!r}")
