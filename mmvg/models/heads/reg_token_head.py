import torch
from mmdet.models.layers import MLP
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import OptConfigType, reduce_mean
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers import TransformerEncoder


@MODELS.register_module()
class RegTokenHead(BaseModule):
    """TransVG's fusion transformer with a regression token, and its box losses (spec 1.5, 1.6).

    The sequence is [REG, text, visual]; the box is read off the REG output. Text shorter than
    ``max_query_len`` uses the first of its position rows: padding tokens never change the result.

    Args:
        visual_channels (int): Width of the visual tokens.
        text_channels (int): Width of the text tokens.
        embed_dims (int): Width C of the fusion.
        num_layers, num_heads, feedforward_channels, dropout, pre_norm, with_cp: Of the fusion
            transformer, see :class:`TransformerEncoder`.
        max_query_len (int): L, rows of text positions, [CLS] and [SEP] included.
        num_visual_tokens (int): N, rows of visual positions.
        learnable_vls (bool): Ours: a learnable visual summary token after [REG], always visible,
            with a position row of its own (EpmVG's [VLS] in reading b, spec 3.2 A1).
        text_gain (float): Factor on the initial text projection. 1 is TransVG's. Ours: with few
            tokens and no pre-training the text drowns among the visual tokens, and a larger
            factor can shorten the initial plateau.
        loss_bbox (dict): On normalised cxcywh, summed over coordinates, averaged over queries. The
            released code trains with ``L1Loss``, the papers say ``SmoothL1Loss``.
        loss_giou (dict): On xyxy, averaged over queries.
    """

    def __init__(
        self,
        visual_channels: int = 256,
        text_channels: int = 768,
        embed_dims: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        dropout: float = 0.1,
        pre_norm: bool = False,
        with_cp: bool = False,
        max_query_len: int = 20,
        num_visual_tokens: int = 400,
        learnable_vls: bool = False,
        text_gain: float = 1.0,
        loss_bbox: OptConfigType = None,
        loss_giou: OptConfigType = None,
    ) -> None:
        super().__init__()
        self.max_query_len = max_query_len
        self.num_visual_tokens = num_visual_tokens
        self.visual_proj = nn.Linear(visual_channels, embed_dims)
        self.text_proj = nn.Linear(text_channels, embed_dims)
        with torch.no_grad():
            self.text_proj.weight.mul_(text_gain)
            self.text_proj.bias.mul_(text_gain)
        self.reg_token = nn.Parameter(torch.randn(1, embed_dims))
        self.num_special = 1 + learnable_vls
        self.vl_pos_embed = nn.Parameter(
            torch.randn(self.num_special + max_query_len + num_visual_tokens, embed_dims)
        )
        if learnable_vls:
            self.vls_token = nn.Parameter(torch.randn(1, embed_dims))
        self.fusion = TransformerEncoder(
            embed_dims, num_layers, num_heads, feedforward_channels, dropout, pre_norm, with_cp
        )
        self.box_mlp = MLP(embed_dims, embed_dims, 4, 3)
        self.loss_bbox = MODELS.build(loss_bbox or dict(type='L1Loss'))
        self.loss_giou = MODELS.build(loss_giou or dict(type='GIoULoss'))

    def _check_lengths(self, text_len: int, visual_len: int) -> None:
        if visual_len != self.num_visual_tokens:
            raise ValueError(
                f'the image gives {visual_len} visual tokens but the head has positions for '
                f'{self.num_visual_tokens}; use the canvas that the model is meant for in every '
                f'pipeline, or set num_visual_tokens={visual_len}'
            )
        if text_len > self.max_query_len:
            raise ValueError(
                f'a query has {text_len} tokens but the head has positions for '
                f'{self.max_query_len}; use the same max_query_len in TokenizeQueries and RegTokenHead'
            )

    def fuse(
        self,
        text_tokens: Tensor,
        text_padding_mask: Tensor,
        visual_tokens: Tensor,
        visual_padding_mask: Tensor,
        image_index: Tensor | None = None,
    ) -> Tensor:
        """Fused REG token of each query.

        The last layer computes the REG row only, since no other row is used.

        Args:
            text_tokens (Tensor): Q x T x Ct, T <= L.
            text_padding_mask (Tensor): Q x T bool, True = padding.
            visual_tokens (Tensor): B x N x Cv; each image appears once. Q x N x Cv if the tokens
                depend on the query.
            visual_padding_mask (Tensor): B x N (or Q x N) bool, True = padding.
            image_index (Tensor, optional): (Q,), the image of each query; None if every query has
                visual tokens of its own.

        Returns:
            Tensor: Q x C.
        """
        (num_queries, text_len), visual_len = text_tokens.shape[:2], visual_tokens.shape[1]
        self._check_lengths(text_len, visual_len)
        text = self.text_proj(text_tokens)
        visual = self.visual_proj(visual_tokens)
        if image_index is not None:
            visual, visual_padding_mask = visual[image_index], visual_padding_mask[image_index]
        special = self.reg_token
        if self.num_special == 2:
            special = torch.cat([special, self.vls_token])
        special = special.to(text.dtype).expand(num_queries, -1, -1)
        special_pos, text_pos, visual_pos = self.vl_pos_embed.split(
            [self.num_special, self.max_query_len, self.num_visual_tokens]
        )
        tokens = torch.cat([special, text, visual], dim=1)
        pos = torch.cat([special_pos, text_pos[:text_len], visual_pos])[None].to(tokens.dtype)
        visible = text_padding_mask.new_zeros(num_queries, self.num_special)
        mask = torch.cat([visible, text_padding_mask, visual_padding_mask], dim=1)
        return self.fusion(tokens, pos, mask, rows=1)[:, 0]

    def sequence_parts(self, length: int) -> dict[str, slice]:
        """Where the parts of a fused sequence of ``length`` tokens lie."""
        start, stop = self.num_special, length - self.num_visual_tokens
        parts = dict(reg=slice(0, 1), text=slice(start, stop), visual=slice(stop, length))
        return {**parts, 'vls': slice(1, 2)} if self.num_special == 2 else parts

    def forward(self, **tokens: Tensor) -> Tensor:
        """Boxes of the queries, Q x 4, normalised cxcywh, float32. Arguments: :meth:`fuse`."""
        reg = self.fuse(**tokens)
        # A box needs more digits than half precision has: 1 / 640 of the canvas is a pixel.
        with torch.autocast(reg.device.type, enabled=False):
            return self.box_mlp(reg.float()).sigmoid()

    def loss(self, targets: Tensor, **tokens: Tensor) -> dict[str, Tensor]:
        """Box losses.

        Args:
            targets (Tensor): Q x 4, normalised cxcywh.
            tokens: See :meth:`fuse`.

        Returns:
            dict: ``loss_bbox`` and ``loss_giou``, scalars.
        """
        return self.loss_by_boxes(self(**tokens), targets)

    def loss_by_boxes(self, boxes: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Losses of Q x 4 predictions against Q x 4 targets, both normalised cxcywh.

        The mean is over the queries of all processes, so that processes with more queries count for
        more.
        """
        num_queries = reduce_mean(boxes.new_full((), len(boxes)))
        return dict(
            loss_bbox=self.loss_bbox(boxes, targets, avg_factor=num_queries),
            loss_giou=self.loss_giou(
                bbox_cxcywh_to_xyxy(boxes), bbox_cxcywh_to_xyxy(targets), avg_factor=num_queries
            ),
        )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        """Refuse positions of another text length instead of leaving them random."""
        pos = state_dict.get(prefix + 'vl_pos_embed')
        if pos is not None and len(pos) != len(self.vl_pos_embed):
            raise ValueError(
                f'the checkpoint has {len(pos)} fusion positions, this model has '
                f'{len(self.vl_pos_embed)} ({self.num_special} + max_query_len {self.max_query_len} + '
                f'{self.num_visual_tokens} visual tokens); if both use the same canvas, the checkpoint '
                f'was trained with max_query_len {len(pos) - self.num_special - self.num_visual_tokens}'
                ': set that in the config (RefCOCOg: 40, others: 20)'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
