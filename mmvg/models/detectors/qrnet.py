import torch
from mmdet.registry import MODELS
from torch import Tensor

from .transvg import TransVG


@MODELS.register_module()
class QRNet(TransVG):
    """TransVG whose visual branch sees the image through the eyes of the query.

    `Shifting More Attention to Visual Backbone: Query-modulated Refinement Networks for End-to-End
    Visual Grounding <https://arxiv.org/abs/2203.15442>`_; spec section 2. The language branch runs
    first; the output at [CLS] controls the gates in backbone and neck. What no query has reached
    yet is computed once per image.

    Args:
        backbone (dict): Takes images, text vectors and the image of each query, such as
            :class:`QueryModulatedSwin`; gives one set of maps per query.
        neck (dict): Takes these maps and the text vectors, such as :class:`QueryModulatedFPN`.
        visual_encoder (dict): Makes tokens of the pyramid, such as :class:`PyramidVisualEncoder`.
        constant_text (bool): Control: the gates see ones instead of the query, which then reaches
            the fusion only. (From zeros they could not learn at all.)
        Others: see :class:`TransVG`.
    """

    def __init__(self, *args, constant_text: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.constant_text = constant_text
        for part in ('backbone', 'neck'):
            width = getattr(getattr(self, part), 'text_channels', None)
            if width is None:
                raise ValueError(
                    f'the {part} of QRNet must take the text: use QueryModulatedSwin and '
                    'QueryModulatedFPN, or TransVG for parts that do not'
                )
            if width != self.language_model.embed_dims:
                raise ValueError(
                    f'the language model gives {self.language_model.embed_dims} channels, the gates '
                    f'of the {part} take {width}; set {part}.text_channels to the width of the BERT'
                )

    def extract_feat(self, inputs: dict[str, Tensor], text: Tensor) -> dict[str, Tensor]:
        """Visual branch under Q x Ct text vectors: ``visual_tokens`` Q x N x Cv,
        ``visual_padding_mask`` Q x N."""
        images, image_index = inputs['images'], inputs['image_index']
        self._check_canvas(*images.shape[-2:])
        pyramid = self.neck(self.backbone(images, text, image_index), text)
        return self.visual_encoder(pyramid, inputs['image_padding_mask'], image_index)

    def _check_canvas(self, height: int, width: int) -> None:
        multiple = 2 * self.backbone.stride  # the last level has half the size of the last map
        if height % multiple or width % multiple:
            raise ValueError(
                f'the canvas of {height} x {width} pixels is not divisible by {multiple}, which '
                'QRNet needs to halve its maps; set PlaceOnCanvas.size to a multiple in all pipelines'
            )

    def encode(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """All that the head needs to know of the batch; see :meth:`RegTokenHead.fuse`."""
        language = self.extract_text(inputs)
        text = language['text_tokens'][:, 0]
        if self.constant_text:
            text = torch.ones_like(text)
        return dict(**language, **self.extract_feat(inputs, text))
