from torch import Tensor, nn

from .pair_linear import PairLinear

SCORERS = ('linear', 'mlp', 'dot', 'none')
REGRESSORS = ('phrase', 'visual', 'none')


class PairScorer(nn.Module):
    """Score or offsets of all pairs from [phrase; box]."""

    def __init__(
        self, embed_dims: int, hidden: int, out: int, visual_channels: int | None = None
    ) -> None:
        super().__init__()
        self.pairs = PairLinear(embed_dims, visual_channels or embed_dims, hidden)
        self.out = nn.Linear(hidden, out)

    def forward(self, phrases: Tensor, visual: Tensor) -> Tensor:
        return self.out(self.pairs(phrases, visual).relu())


class _DotScorer(nn.Module):
    def forward(self, phrases: Tensor, visual: Tensor) -> Tensor:
        scale = phrases.shape[-1] ** -0.5
        return (phrases.unsqueeze(2) * visual).sum(-1, keepdim=True) * scale


class _VisualRegressor(nn.Sequential):
    def forward(self, phrases: Tensor, visual: Tensor) -> Tensor:
        deltas = super().forward(visual)
        return deltas.expand(-1, phrases.shape[1], -1, -1)


def build_scorer(kind: str, embed_dims: int) -> nn.Module | None:
    """One of ``SCORERS``: phrases B x N x C, boxes B x (N or 1) x P x C -> B x N x P x 1."""
    if kind == 'linear':
        return PairLinear(embed_dims, embed_dims, 1)
    if kind == 'mlp':
        return PairScorer(embed_dims, embed_dims // 2, 1)
    return _DotScorer() if kind == 'dot' else None


def build_regressor(kind: str, embed_dims: int) -> nn.Module | None:
    """One of ``REGRESSORS``: the same -> B x N x P x 4."""
    hidden = embed_dims // 4
    if kind == 'phrase':
        return PairScorer(embed_dims, hidden, 4)
    if kind == 'visual':
        return _VisualRegressor(nn.Linear(embed_dims, hidden), nn.ReLU(), nn.Linear(hidden, 4))
    return None
