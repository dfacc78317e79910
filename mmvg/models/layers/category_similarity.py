from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmvg.text.word_table import load_word_table

POOLS = ('mean_cos', 'cos_mean', 'max')


@MODELS.register_module()
class CategorySimilarity(nn.Module):
    """How well the words of a phrase fit the category that a detector gave a box (Eq. 3; spec 2.3).

    Word and category vectors are fixed, so all cosines are computed once.

    Args:
        words (Tensor | Sequence): W x D, vectors of the known words; word ids are rows.
        categories (Tensor | Sequence): C x D, vectors of the categories.
        table (str, optional): A file that holds both, made by tools/misc/build_reir_text.py.
        names (Sequence[str], optional): Of the categories; those of the table, if there is one. The
            inferencer matches the classes of another detector with them.
        pool (str): ``'mean_cos'``: mean cosine over the words, at least 0 (release); ``'cos_mean'``:
            cosine of the mean vector; ``'max'``: the largest cosine (A5).
        fallback (float, optional): A phrase that fits no category by at least this much takes all of
            them as equal (A7); None: it fits none, as in the release.
        norm_max (bool): The box that fits a phrase best fits it by 1, others in proportion (A7).

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If it is not a word table, or if there is neither a table nor words and categories.
    """

    def __init__(
        self,
        words: Tensor | Sequence[Sequence[float]] | None = None,
        categories: Tensor | Sequence[Sequence[float]] | None = None,
        pool: str = 'mean_cos',
        fallback: float | None = None,
        table: str | None = None,
        names: Sequence[str] | None = None,
        norm_max: bool = False,
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f'pool must be one of {POOLS}, not {pool!r}')
        self.pool = pool
        self.fallback = fallback
        self.norm_max = norm_max
        if {words is None, categories is None} != {table is not None}:
            raise ValueError('CategorySimilarity needs words and categories, or a table of both')
        if table is not None:
            loaded = load_word_table(table)
            words, categories, names = loaded.words, loaded.categories, loaded.category_list
        self.names = names
        words, categories = (
            F.normalize(torch.as_tensor(x, dtype=torch.float32)) for x in (words, categories)
        )
        # Whatever a checkpoint needs, it can be made again from the tables.
        self.register_buffer('cosines', words @ categories.T, persistent=False)
        kept = words if pool == 'cos_mean' else words.new_zeros(0)
        self.register_buffer('words', kept, persistent=False)
        self.register_buffer('categories', categories if len(kept) else kept, persistent=False)

    @torch.no_grad()
    def forward(
        self, word_ids: Tensor, labels: Tensor, box_present: Tensor | None = None
    ) -> Tensor:
        """B x N x L word ids (-1: unknown or none) and B x M categories -> B x N x M in [0, 1].

        ``box_present`` (B x M bool) tells boxes from empty slots, which are no phrase's best.
        """
        known = (word_ids >= 0).unsqueeze(-1)
        rows = word_ids.clamp(min=0)
        count = known.sum(2).clamp(min=1)
        if self.pool == 'cos_mean':
            mean = (self.words[rows] * known).sum(2) / count
            similarity = F.normalize(mean, dim=-1) @ self.categories.T
        elif self.pool == 'max':
            similarity = (self.cosines[rows] * known).amax(2)
        else:
            similarity = (self.cosines[rows] * known).sum(2) / count
        index = labels.unsqueeze(1).expand(-1, word_ids.shape[1], -1)
        similarity = similarity.relu().gather(2, index)
        if self.fallback is None and not self.norm_max:
            return similarity
        fit = similarity
        if box_present is not None:
            fit = fit.masked_fill(~box_present.unsqueeze(1), 0.0)
        best = fit.amax(2, keepdim=True)
        if self.norm_max:
            similarity = similarity / best.masked_fill(best == 0, 1.0)
        if self.fallback is not None:
            similarity = torch.where(best < self.fallback, 1.0, similarity)
        return similarity
