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
        strides: tuple = (4, 2, 2, 2),
        **kwargs,
    ) -> None:
        with torch.device(
            'cpu'
        ):  # mmdet reads its drop path rates off a tensor: impossible on meta
            super().__init__(*args, strides=strides, **kwargs)
        self.to(torch.empty(0).device)
        self.text_channels = text_channels
        self.stride = math.prod(strides)
        self.gates = ModuleList(
            QueryDynamicAttention(channels, text_channels, **(gate_cfg or {}))
            for channels in self.num_features
        )

    def train(self, mode: bool = True) -> 'QueryModulatedSwin':
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        return self

    def init_weights(self) -> None:
        """Initialise as released, then read ``init_cfg.checkpoint`` if one is given.

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
            self._load_pretrained(self.init_cfg['checkpoint'])

    def _load_pretrained(self, path: str) -> None:
        """mmdet's loading, which itself says nothing of layers that the file does not have."""

        def check(_: nn.Module, keys) -> None:
            missing = [k for k in keys.missing_keys if k.startswith(('patch_embed.', 'stages.'))]
            missing = [k for k in missing if not k.endswith('relative_position_index')]
            if missing:
                raise ValueError(f'it lacks {len(missing)} tensors of Swin, such as {missing[0]}')

        handle = self.register_load_state_dict_post_hook(check)
        try:
            super().init_weights()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'backbone.init_cfg.checkpoint: {path} does not exist; correct the path, or convert a '
                'Swin detector with tools/model_converters/swin_mask_rcnn.py and give it as load_from'
            ) from error
        except (IndexError, ValueError, RuntimeError) as error:
            reason = (
                str(error).splitlines()[:2][-1].strip()
            )  # torch's first line only names the class
            if isinstance(error, IndexError):
                reason = 'it has no tensors of a backbone'
            raise ValueError(
                f'backbone.init_cfg.checkpoint {path} does not fit: {reason}; use a Swin of the '
                'configured size, and set backbone.convert_weights=True if (and only if) the file has '
                'the names of the original Swin'
            ) from error
        finally:
            handle.remove()

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
