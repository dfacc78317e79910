from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from ..layers import QueryDynamicAttention


@MODELS.register_module()
class QueryModulatedFPN(BaseModule):
    """QRNet's neck: an FPN without output convolutions, then a gated way back up (spec 2.5).

    1. A 1 x 1 convolution brings every map to ``out_channels``; coarse maps are added to finer ones.
    2. From fine to coarse, each map is gated by the query, averaged over 2 x 2 cells and added to
       the next.
    3. Further levels take every second row and column of the last one.

    Args:
        in_channels (Sequence[int]): Widths of the backbone's maps, fine to coarse.
        out_channels (int): Width of the pyramid.
        num_outs (int): Levels of the pyramid, at least as many as maps.
        text_channels (int): Width of the text vector that controls the gates.
        gate_cfg (dict, optional): Options of :class:`QueryDynamicAttention`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_outs: int = 5,
        text_channels: int = 768,
        gate_cfg: dict | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform'))
        if num_outs < len(in_channels):
            raise ValueError(f'num_outs {num_outs} is less than the {len(in_channels)} input maps')
        self.num_outs = num_outs
        self.text_channels = text_channels
        # torch's ModuleList: through mmengine's, ConvModule would replace Xavier by Kaiming.
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, act_cfg=None) for channels in in_channels
        )
        self.gates = ModuleList(
            QueryDynamicAttention(out_channels, text_channels, **(gate_cfg or {}))
            for _ in in_channels[1:]
        )

    def forward(self, maps: Sequence[Tensor], text: Tensor) -> list[Tensor]:
        """Pyramid of the maps as each query sees them.

        Args:
            maps (Sequence[Tensor]): Q x Ci x h x w, fine to coarse, each twice the next in size.
            text (Tensor): Q x text_channels.

        Returns:
            list[Tensor]: ``num_outs`` maps Q x out_channels x h x w, fine to coarse.
        """
        outs = [lateral(x) for lateral, x in zip(self.lateral_convs, maps, strict=True)]
        for i in range(len(outs) - 1, 0, -1):
            outs[i - 1] = outs[i - 1] + F.interpolate(outs[i], size=outs[i - 1].shape[-2:])
        for i, gate in enumerate(self.gates):
            outs[i + 1] = outs[i + 1] + F.avg_pool2d(self._modulate(gate, outs[i], text), 2)
        while len(outs) < self.num_outs:
            outs.append(outs[-1][..., ::2, ::2])
        return outs

    @staticmethod
    def _modulate(gate: QueryDynamicAttention, x: Tensor, text: Tensor) -> Tensor:
        """Gate a map; its tokens are a view of it."""
        return gate(x.flatten(2).transpose(1, 2), text).transpose(1, 2).unflatten(2, x.shape[2:])
