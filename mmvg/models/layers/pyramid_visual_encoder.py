from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from .detr_visual_encoder import downsample_padding


@MODELS.register_module()
class PyramidVisualEncoder(BaseModule):
    """Visual tokens of QRNet: the last pyramid levels, each marked by an embedding (spec 2.6).

    No layer mixes the tokens, and their positions are left to the fusion.

    Args:
        embed_dims (int): Width C of the pyramid.
        num_levels (int): Levels of the pyramid, each with an embedding.
        num_used (int): How many of the last levels give tokens.
    """

    def __init__(self, embed_dims: int = 256, num_levels: int = 5, num_used: int = 2) -> None:
        super().__init__()
        self.num_used = num_used
        self.level_embed = nn.Parameter(torch.randn(num_levels, embed_dims))

    def forward(
        self, pyramid: Sequence[Tensor], image_padding_mask: Tensor, image_index: Tensor
    ) -> dict[str, Tensor]:
        """Join the tokens of the last levels, finest level first, each row by row.

        Args:
            pyramid (Sequence[Tensor]): ``num_levels`` maps Q x C x h x w, fine to coarse.
            image_padding_mask (Tensor): B x H x W bool, True = padding.
            image_index (Tensor): (Q,), the image of each query.

        Returns:
            dict: ``visual_tokens`` Q x N x C and ``visual_padding_mask`` Q x N (True = padding).
        """
        if len(pyramid) != len(self.level_embed):
            raise ValueError(
                f'the neck gives {len(pyramid)} levels, the visual encoder has embeddings for '
                f'{len(self.level_embed)}; set visual_encoder.num_levels to neck.num_outs'
            )
        tokens, masks = [], []
        for level, embedding in list(zip(pyramid, self.level_embed, strict=True))[-self.num_used :]:
            tokens.append(level.flatten(2).transpose(1, 2) + embedding.to(level.dtype))
            masks.append(downsample_padding(image_padding_mask, level.shape[-2:]).flatten(1))
        return dict(
            visual_tokens=torch.cat(tokens, 1), visual_padding_mask=torch.cat(masks, 1)[image_index]
        )
