from collections.abc import Sequence

import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmvg.text import Vocabulary, WordTable, tokenize


@TRANSFORMS.register_module()
class EncodePhrases(BaseTransform):
    """Words of a caption and its phrases as ids, for :class:`ReIR` (spec reir 1.3).

    A record without ``caption`` (ReferItGame) gets one that lists its queries.

    Args:
        caption_vocab, phrase_vocab (str | Sequence[str]): Vocabularies of the language model and of
            the phrase decoder: JSON files, or the words.
        table_words (str | Sequence[str]): Words of the category similarity, in the order of their
            vectors: ``table_words.json``, or the words.
        keep (str): Which words of a phrase are compared with categories; see
            :meth:`WordTable.encode`.

    Raises:
        FileNotFoundError, ValueError: See :class:`Vocabulary`.
    """

    def __init__(
        self,
        caption_vocab: str | Sequence[str],
        phrase_vocab: str | Sequence[str],
        table_words: str | Sequence[str],
        keep: str = 'all',
    ) -> None:
        self.caption_vocab = _load(caption_vocab)
        self.phrase_vocab = _load(phrase_vocab)
        words = _load(table_words).words
        # Vectors are the model's business; here only their order matters.
        self.table = WordTable(torch.empty(len(words), 0), torch.empty(0, 0), words, [])
        self.keep = keep

    def transform(self, results: dict) -> dict:
        """Set caption_ids, phrase_ids, target_ids and word_ids, and caption and query_spans if absent."""
        if results.get('caption') is None:
            results['caption'], results['query_spans'] = _list_queries(results['queries'])
        words = tokenize(results['caption'])
        phrases = [' '.join(words[start:end]) for start, end in results['query_spans']]
        try:
            results['caption_ids'] = self.caption_vocab.encode(results['caption'])
            results['phrase_ids'] = [self.caption_vocab.encode(p) for p in phrases]
            results['target_ids'] = [self.phrase_vocab.encode(p) for p in phrases]
        except ValueError as error:
            raise ValueError(f'{results.get("source")}: {error}') from error
        results['word_ids'] = [self.table.encode(p, self.keep) for p in phrases]
        return results

    def __repr__(self) -> str:
        sizes = len(self.caption_vocab), len(self.phrase_vocab), len(self.table.word_list)
        return f'{type(self).__name__}({sizes[0]} caption ids, {sizes[1]} phrase ids, {sizes[2]} words)'


def _load(words: str | Sequence[str]) -> Vocabulary:
    return Vocabulary.load(words) if isinstance(words, str) else Vocabulary(words)


def _list_queries(queries: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Queries one after the other, and where each stands."""
    spans, end = [], 0
    for query in queries:
        start, end = end, end + len(tokenize(query))
        spans.append((start, end))
    return ' '.join(queries), spans
