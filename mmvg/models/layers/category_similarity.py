import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

POOLS = ('mean_cos', 'cos_mean', 'max')


@MODELS.register_module()
class CategorySimilarity(nn.Module):
    """How well the words of a phrase fit the category that a detector gave a box (Eq. 3; spec 2.3).

    Word and category vectors are fixed, so all cosines are computed once.

    Args:
        words (Tensor): W x D, vectors of the known words; word ids are rows.
        categories (Tensor): C x D, vectors of the categories.
        pool (str): ``'mean_cos'``: mean cosine over the words, at least 0 (release); ``'cos_mean'``:
            cosine of the mean vector; ``'max'``: the largest cosine (A5).
        fallback (float, optional): A phrase that fits no category by at least this much takes all of
            them as equal (A7); None: it fits none, as in the release.
    """

    def __init__(
        self,
        words: Tensor,
        categories: Tensor,
        pool: str = 'mean_cos',
        fallback: float | None = None,
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f'pool must be one of {POOLS}, not {pool!r}')
        self.pool = pool
        self.fallback = fallback
        words, categories = F.normalize(words.float()), F.normalize(categories.float())
        # Whatever a checkpoint needs, it can be made again from the tables.
        self.register_buffer('cosines', words @ categories.T, persistent=False)
        kept = words if pool == 'cos_mean' else words.new_zeros(0)
        self.register_buffer('words', kept, persistent=False)
        self.register_buffer('categories', categories if len(kept) else kept, persistent=False)

    @torch.no_grad()
    def forward(self, word_ids: Tensor, labels: Tensor) -> Tensor:
        """B x N x L word ids (-1: unknown or none) and B x M categories -> B x N x M in [0, 1]."""
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
        if self.fallback is not None:
            lost = similarity.amax(2, keepdim=True) < self.fallback
            similarity = torch.where(lost, 1.0, similarity)
        return similarity
