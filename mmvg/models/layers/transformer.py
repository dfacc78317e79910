"""The DETR-style transformer encoder that the visual branch and the fusion share (spec 1.5)."""

import torch
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from mmengine.model import BaseModule
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head attention with the parameters of ``nn.MultiheadAttention``, computed by SDPA.

    ``nn.MultiheadAttention`` takes the fused kernel only under conditions that DETR's separate
    query/key and value inputs do not meet, and it cannot compute some rows only.
    """

    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'embed_dims {embed_dims} is not a multiple of num_heads {num_heads}')
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dims, embed_dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dims))
        self.out_proj = nn.Linear(embed_dims, embed_dims)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None) -> Tensor:
        """B x R x C over B x N x C keys and values; ``attend`` B x 1 x 1 x N, True = visible."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, w, b).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=attend, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(out.transpose(1, 2).flatten(2))


class TransformerEncoderLayer(nn.Module):
    """Attention and feed-forward with residuals; positions are added to queries and keys only.

    Args:
        embed_dims (int): Width C.
        num_heads (int): Attention heads.
        feedforward_channels (int): Hidden width of the feed-forward part.
        dropout (float): Of attention weights, hidden units and both residuals.
        pre_norm (bool): Normalise before instead of after each part. TransVG normalises after.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        dropout: float,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = SelfAttention(embed_dims, num_heads, dropout)
        self.linear1 = nn.Linear(embed_dims, feedforward_channels)
        self.linear2 = nn.Linear(feedforward_channels, embed_dims)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.dropout = nn.Dropout(dropout)

    def _attention(self, x: Tensor, pos: Tensor, attend: Tensor | None, rows: int | None) -> Tensor:
        placed = x + pos
        return self.dropout(self.self_attn(placed[:, :rows], placed, x, attend))

    def _feedforward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x)))))

    def forward(
        self, x: Tensor, pos: Tensor, attend: Tensor | None, rows: int | None = None
    ) -> Tensor:
        """B x N x C to B x R x C, where R = ``rows`` (the first ones) or N."""
        if self.pre_norm:
            x = x[:, :rows] + self._attention(self.norm1(x), pos, attend, rows)
            return x + self._feedforward(self.norm2(x))
        x = self.norm1(x[:, :rows] + self._attention(x, pos, attend, rows))
        return self.norm2(x + self._feedforward(x))


class TransformerEncoder(BaseModule):
    """A stack of :class:`TransformerEncoderLayer` without a final norm, Xavier-initialised as in
    DETR.

    Args:
        num_layers (int): Number of layers.
        with_cp (bool): Recompute activations in the backward pass to save memory.
        Others: see :class:`TransformerEncoderLayer`.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        dropout: float = 0.1,
        pre_norm: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(embed_dims, num_heads, feedforward_channels, dropout, pre_norm)
            for _ in range(num_layers)
        )
        for p in self.parameters():
            if p.dim() > 1:  # on the stacked 3C x C projection, as the official code does
                nn.init.xavier_uniform_(p)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        padding_mask: Tensor | None = None,
        rows: int | None = None,
    ) -> Tensor:
        """Encode tokens.

        Args:
            x (Tensor): B x N x C tokens.
            pos (Tensor): Positions, B x N x C or 1 x N x C, added to queries and keys of every
                layer.
            padding_mask (Tensor, optional): B x N bool, True = padding. A sample with padding only
                gives NaN.
            rows (int, optional): Compute only the first ``rows`` outputs of the last layer.

        Returns:
            Tensor: B x N x C, or B x rows x C.
        """
        attend = None if padding_mask is None else ~padding_mask[:, None, None]
        for i, layer in enumerate(self.layers):
            wanted = rows if i == len(self.layers) - 1 else None
            if self.with_cp and self.training:
                x = cp.checkpoint(layer, x, pos, attend, wanted, use_reentrant=False)
            else:
                x = layer(x, pos, attend, wanted)
        return x
