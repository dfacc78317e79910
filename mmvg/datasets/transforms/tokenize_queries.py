from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmengine.logging import MMLogger

from mmvg.text.tokenizer import build_tokenizer


@TRANSFORMS.register_module()
class TokenizeQueries(BaseTransform):
    """Turn queries into word piece ids in the loader, after every transform that changes text.

    Queries that are too long are cut, as in the official code (spec 1.2). ``num_cut`` counts them
    per process; the first one is logged.

    Args:
        tokenizer (str): Hub name, local folder or ``vocab.txt``, or ``'builtin:shapes'``. Use that
            of the language model.
        max_query_len (int): Most ids per query, [CLS] and [SEP] included.

    Raises:
        ValueError: If a query is empty or not a string.
        FileNotFoundError: If the tokeniser's files are not to be had.
    """

    def __init__(self, tokenizer: str, max_query_len: int = 20) -> None:
        if max_query_len < 3:
            raise ValueError(
                f'max_query_len counts [CLS] and [SEP] and must be 3 or more, got {max_query_len}'
            )
        self.tokenizer = tokenizer
        self.max_query_len = max_query_len
        self.num_cut = 0

    def transform(self, results: dict) -> dict:
        """Set query_token_ids: a list of K lists of ids."""
        for query in results['queries']:
            if not isinstance(query, str) or not query.strip():
                raise ValueError(
                    f'{results.get("source") or "record"}, image {results.get("img_path")}: query '
                    f'{query!r} is empty or not text; correct or remove it'
                )
        results['query_token_ids'] = [self._encode(q, results) for q in results['queries']]
        return results

    def _encode(self, query: str, results: dict) -> list[int]:
        tokenizer = build_tokenizer(self.tokenizer)  # built on first use, once per process
        ids = tokenizer.encode(query, self.max_query_len)
        if len(ids) == self.max_query_len and tokenizer.num_pieces(query) > self.max_query_len - 2:
            self.num_cut += 1
            if self.num_cut == 1:
                MMLogger.get_current_instance().warning(
                    f'{results.get("source") or results.get("img_path")}: query cut to '
                    f'{self.max_query_len} word pieces: {query[:200]!r}; raise max_query_len here '
                    'and in the head to keep more. Further cuts are counted, not logged'
                )
        return ids

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(tokenizer={self.tokenizer!r}, '
            f'max_query_len={self.max_query_len})'
        )
