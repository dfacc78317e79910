import json
from collections.abc import Sequence
from pathlib import Path

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class EncodePhrases(BaseTransform):
    """Words of a caption and its phrases as ids, for :class:`ReIR` (spec reir 1.3).

    A record without ``caption`` (ReferItGame) reads each query as a phrase of one caption that lists
    them all.

    Args:
        caption_words, phrase_words (str | Sequence[str]): Vocabularies of the language model and of
            the phrase decoder, or JSON files that list them. Ids are counted from 1; an unknown word
            is ``'<unk>'``, which must be in the vocabulary then.
        table_words (str | Sequence[str]): The words that the category similarity knows, in the order
            of their vectors, or a JSON file.

    Raises:
        FileNotFoundError, ValueError: If a file is absent or is no list of words, or a word is
            unknown and there is no ``'<unk>'``.
    """

    def __init__(
        self,
        caption_words: str | Sequence[str],
        phrase_words: str | Sequence[str],
        table_words: str | Sequence[str],
    ) -> None:
        self.caption_ids = _number(caption_words, 1)
        self.phrase_ids = _number(phrase_words, 1)
        self.table_rows = _number(table_words, 0)

    def transform(self, results: dict) -> dict:
        """Set caption_ids, query_spans, phrase_ids, target_ids and word_ids."""
        if results.get('caption') is None:
            results['caption'], results['query_spans'] = _join(results['queries'])
        words = results['caption'].lower().split(' ')
        phrases = [words[a:b] for a, b in results['query_spans']]
        source = results.get('source')
        results['caption_ids'] = _look_up(words, self.caption_ids, source)
        results['phrase_ids'] = [_look_up(p, self.caption_ids, source) for p in phrases]
        results['target_ids'] = [_look_up(p, self.phrase_ids, source) for p in phrases]
        results['word_ids'] = [[self.table_rows.get(w, -1) for w in p] for p in phrases]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({len(self.caption_ids)} caption words, '
            f'{len(self.phrase_ids)} phrase words, {len(self.table_rows)} table words)'
        )


def _join(queries: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Queries one after the other, and where each stands."""
    spans, end = [], 0
    for query in queries:
        start, end = end, end + len(query.split(' '))
        spans.append((start, end))
    return ' '.join(queries), spans


def _look_up(words: Sequence[str], ids: dict[str, int], source: str | None) -> list[int]:
    try:
        return [ids[w] if w in ids else ids['<unk>'] for w in words]
    except KeyError:
        unknown = [w for w in words if w not in ids]
        raise ValueError(
            f"{source}: {unknown} are not in the vocabulary, which has no '<unk>' either; build the "
            'vocabulary from the training set of this data set'
        ) from None


def _number(words: str | Sequence[str], first: int) -> dict[str, int]:
    if isinstance(words, str):
        path = Path(words)
        if not path.is_file():
            raise FileNotFoundError(
                f'{path} does not exist; make the vocabularies with tools/misc/build_reir_text.py, or '
                'correct the path in the config'
            )
        words = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
            raise ValueError(f'{path} is no vocabulary: a JSON list of words belongs there')
    if len(set(words)) < len(words):
        raise ValueError('a vocabulary has a word twice; every word must have one id')
    return {word: i for i, word in enumerate(words, first)}
