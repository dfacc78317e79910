import math

import torch
from mmdet.models.backbones import SwinTransformer
from mmdet.registry import MODELS
from mmengine.model import ModuleList
from mmengine.model.weight_init import trunc_normal_, trunc_normal_init
from torch import Tensor, nn

from ..layers import QueryDynamicAttention


@MODELS.register_module()
class QueryModulatedSwin(SwinTransformer):
    """Swin whose every stage ends in a gate that the query controls (QRNet; spec 2.2, 2.4).

    The gate acts after the last block of a stage, before the stage's output norm and before its
    downsampling. Patch embedding and the blocks of stage 0 know no query yet: they run once per
    image, whatever the number of its queries.

    Args:
        text_channels (int): Width of the text vector that controls the gates.
        gate_cfg (dict, optional): Options of :class:`QueryDynamicAttention`.
        Others: see mmdet's ``SwinTransformer``.
    """

    def __init__(
        self,
        *args,
        text_channels: int = 768,
        gate_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        # mmdet reads its drop path rates off a tensor, which the meta device does not allow.
        with torch.device('cpu'):
            super().__init__(*args, **kwargs)
        self.to(torch.empty(0).device)
        self.text_channels = text_channels
        merges = [stage.downsample for stage in self.stages if stage.downsample is not None]
        self.stride = self.patch_embed.projection.stride[0]
        self.stride *= math.prod(merge.sampler.stride[0] for merge in merges)
        self.gates = ModuleList(
            QueryDynamicAttention(channels, text_channels, **(gate_cfg or {}))
            for channels in self.num_features
        )

    def train(self, mode: bool = True) -> 'QueryModulatedSwin':
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        return self

    def init_weights(self) -> None:
        """Initialise as released, then read ``init_cfg.checkpoint`` as mmdet's Swin does.

        Every linear layer, those of the gates included, starts as truncated N(0, 0.02). Recipes
        read the weights of a detector by ``load_from`` afterwards.
        """
        if self.use_abs_pos_embed:
            trunc_normal_(self.absolute_pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_init(module, std=0.02, bias=0.0)
            elif hasattr(module, 'relative_position_bias_table'):
                trunc_normal_(module.relative_position_bias_table, std=0.02)
        if self.init_cfg is not None:
            super().init_weights()

    def forward(
        self, images: Tensor, text: Tensor, image_index: Tensor | None = None
    ) -> list[Tensor]:
        """Encode the images as each query sees them.

        Args:
            images (Tensor): B x 3 x H x W.
            text (Tensor): Q x text_channels, one vector per query.
            image_index (Tensor, optional): (Q,), the image of each query; None if there is one
                query per image.

        Returns:
            list[Tensor]: Maps Q x C x h x w of the stages ``out_indices``, fine to coarse.
        """
        x, shape = self.patch_embed(images)
        if self.use_abs_pos_embed:
            x = x + self.absolute_pos_embed
        x = self.drop_after_pos(x)
        outs = []
        for i, (stage, gate) in enumerate(zip(self.stages, self.gates, strict=True)):
            for block in stage.blocks:
                x = block(x, shape)
            x = gate(x, text, image_index if i == 0 else None)
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(x)
                outs.append(out.transpose(1, 2).unflatten(2, shape).contiguous())
            if stage.downsample is not None:
                x, shape = stage.downsample(x, shape)
        return outs
