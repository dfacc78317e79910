import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dynamic_linear import DynamicLinear


class QueryDynamicAttention(nn.Module):
    """QRNet's query-aware dynamic attention (QD-ATT): the query gates channels, then positions.

    With x the tokens of a feature map, t the text vector and f two dynamic linear layers,

    - channel gate: ``s_c = sigmoid(f(mean(x)) + f(max(x)))``, ``x <- x * s_c``;
    - spatial gate: ``s_s = sigmoid(DynamicLinear(x))`` per token, ``x <- x * s_s``.

    As released, all V start at 0. Then the first layer of f gives 0, where ReLU passes no gradient,
    and never learns: the channel gate depends on the query alone (spec 2.9, finding 1). ``v_init``
    revives it; both gates start at 1/2 in either case.

    Args:
        channels (int): Width C of the tokens.
        text_channels (int): Width Ct of the text vector.
        rank (int): k of every dynamic linear layer.
        reduction (int): The hidden width of f is C // reduction.
        use_channel, use_spatial (bool): Switch a gate off.
        v_init (float): Standard deviation of the initial V of the first layer of f. 0 is the
            released code; 0.02 is ours.
    """

    def __init__(
        self,
        channels: int,
        text_channels: int,
        rank: int = 30,
        reduction: int = 16,
        use_channel: bool = True,
        use_spatial: bool = True,
        v_init: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = channels // reduction
        if use_channel and not hidden:
            raise ValueError(
                f'gate_cfg: reduction {reduction} leaves nothing of {channels} channels; lower it'
            )
        self.channel_mlp = self.spatial = None
        if use_channel:
            self.channel_mlp = nn.ModuleList(
                [
                    DynamicLinear(channels, hidden, text_channels, rank, v_init),
                    DynamicLinear(hidden, channels, text_channels, rank),
                ]
            )
        if use_spatial:
            self.spatial = DynamicLinear(channels, 1, text_channels, rank)

    def channel_gate(self, pooled: Tensor, text: Tensor) -> Tensor:
        """Gates Q x 1 x C from the Q x 2 x C mean and maximum of the tokens."""
        squeeze, excite = self.channel_mlp
        hidden = F.relu(squeeze(pooled, text))
        return excite(hidden, text).sum(1, keepdim=True).sigmoid()

    def forward(self, x: Tensor, text: Tensor, image_index: Tensor | None = None) -> Tensor:
        """Gate the tokens of a map by the query of each map.

        Args:
            x (Tensor): Q x T x C; or B x T x C, one map for all queries of an image.
            text (Tensor): Q x Ct.
            image_index (Tensor): (Q,), the row of ``x`` that belongs to each query, where several
                queries share one.

        Returns:
            Tensor: Q x T x C.
        """
        index = slice(None) if image_index is None else image_index
        if self.channel_mlp is None:
            x = x[index]
        else:
            pooled = torch.stack([x.mean(1), x.amax(1)], 1)
            x = x[index] * self.channel_gate(pooled[index], text)
        return x if self.spatial is None else x * self.spatial(x, text).sigmoid()
