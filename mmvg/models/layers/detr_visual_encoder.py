import torch
import torch.nn.functional as F
from mmdet.models.layers import SinePositionalEncoding
from mmdet.registry import MODELS
from torch import Tensor

from .transformer import TransformerEncoder


def downsample_padding(image_padding_mask: Tensor, size: torch.Size) -> Tensor:
    """Padding mask of the tokens: the top-left pixel of each cell decides, as in DETR (spec 1.4).

    An image so thin that it covers no such pixel would have no visible token; it keeps every token
    that holds any of its pixels instead.

    Args:
        image_padding_mask (Tensor): B x H x W bool, True = padding.
        size (torch.Size): (h, w) of the token grid.

    Returns:
        Tensor: B x h x w bool.
    """
    mask = image_padding_mask[:, None].float()
    tokens = F.interpolate(mask, size=size)[:, 0].bool()
    covered = ~F.adaptive_max_pool2d(1 - mask, size)[:, 0].bool()
    return torch.where(tokens.all(dim=(1, 2), keepdim=True), covered, tokens)


@MODELS.register_module()
class DETRVisualEncoder(TransformerEncoder):
    """The encoder of DETR over the last feature map; no decoder, no final norm (spec 1.5).

    mmdet's ``DetrTransformerEncoder`` asks ``nn.MultiheadAttention`` for the attention weights,
    which excludes the fused kernel. Arguments: see :class:`TransformerEncoder`.
    """

    def __init__(self, embed_dims: int = 256, **kwargs) -> None:
        super().__init__(embed_dims=embed_dims, **kwargs)
        self.positions = SinePositionalEncoding(embed_dims // 2, normalize=True)

    def forward(self, feature_map: Tensor, image_padding_mask: Tensor) -> dict[str, Tensor]:
        """Encode B x C x h x w features.

        Args:
            feature_map (Tensor): B x C x h x w.
            image_padding_mask (Tensor): B x H x W bool, True = padding.

        Returns:
            dict: ``visual_tokens`` B x N x C and ``visual_padding_mask`` B x N (True = padding), N
                = h * w.
        """
        mask = downsample_padding(image_padding_mask, feature_map.shape[-2:])
        tokens = feature_map.flatten(2).transpose(1, 2)
        pos = self.positions(mask).flatten(2).transpose(1, 2).to(tokens.dtype)
        mask = mask.flatten(1)
        return dict(visual_tokens=super().forward(tokens, pos, mask), visual_padding_mask=mask)
