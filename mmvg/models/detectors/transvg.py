from collections.abc import Sequence
from operator import attrgetter

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmvg.structures import canvas_to_image, canvas_to_normalised, normalised_to_canvas

from ..data_preprocessor import split_by_image


@MODELS.register_module()
class TransVG(BaseDetector):
    """TransVG: visual and language tokens, fused with a regression token that becomes the box.

    `TransVG: End-to-End Visual Grounding with Transformers <https://arxiv.org/abs/2104.08541>`_;
    spec section 1. Every image is encoded once, whatever the number of its queries.

    Args:
        backbone (dict): Gives feature maps; the last one is used.
        language_model (dict): Gives text tokens; runs before the visual branch.
        bbox_head (dict): Fuses tokens and answers with boxes.
        neck (dict, optional): Projects the feature map (DETR's ``input_proj``).
        visual_encoder (dict): Encodes the feature map as tokens; ``num_layers=0`` leaves it as it is.
        frozen_modules (Sequence[str]): Submodules that stay as they are: no gradient, evaluation
            mode, e.g. ``['backbone', 'neck', 'visual_encoder', 'language_model']``. TransVG freezes
            a part by setting its learning rate to 0.
    """

    def __init__(
        self,
        backbone: ConfigType,
        language_model: ConfigType,
        visual_encoder: ConfigType,
        bbox_head: ConfigType,
        neck: OptConfigType = None,
        frozen_modules: Sequence[str] = (),
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.language_model = MODELS.build(language_model)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck) if neck else None
        self.visual_encoder = MODELS.build(visual_encoder)
        self.bbox_head = MODELS.build(bbox_head)
        text_channels = self.bbox_head.text_proj.in_features
        if self.language_model.embed_dims != text_channels:
            raise ValueError(
                f'the language model gives {self.language_model.embed_dims} channels, the head takes '
                f'{text_channels}; set bbox_head.text_channels to the width of the BERT'
            )
        if hasattr(self.data_preprocessor, 'vocab_size'):
            self.data_preprocessor.vocab_size = self.language_model.vocab_size
        self.frozen = [self._submodule(name) for name in frozen_modules]
        for module in self.frozen:
            module.requires_grad_(False)

    def _submodule(self, name: str) -> nn.Module:
        try:
            return attrgetter(name)(self)
        except AttributeError:
            known = [n for n, _ in self.named_children()]
            raise ValueError(
                f"model.frozen_modules names '{name}', which {type(self).__name__} does not have; "
                f'its parts are {known}'
            ) from None

    def train(self, mode: bool = True) -> 'TransVG':
        """Set the mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def extract_text(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Language branch: ``text_tokens`` Q x T x Ct, ``text_padding_mask`` Q x T."""
        return self.language_model(inputs['input_ids'], inputs['text_padding_mask'])

    def extract_feat(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Visual branch: ``visual_tokens`` B x N x Cv, ``visual_padding_mask`` B x N."""
        features = self.backbone(inputs['images'])
        if self.neck is not None:
            features = self.neck(features)
        return self.visual_encoder(features[-1], inputs['image_padding_mask'])

    def encode(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """All that the head needs to know of the batch; see :meth:`RegTokenHead.fuse`."""
        return dict(
            **self.extract_text(inputs),
            **self.extract_feat(inputs),
            image_index=inputs['image_index'],
        )

    def loss(self, inputs: dict[str, Tensor], data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of a batch; ``inputs`` as :class:`GroundingDataPreprocessor` gives them."""
        bboxes = torch.cat([s.gt_instances.bboxes for s in data_samples])
        targets = canvas_to_normalised(bboxes, inputs['images'].shape[-2:])
        return self.bbox_head.loss(targets, **self.encode(inputs))

    def predict(self, inputs: dict[str, Tensor], data_samples: SampleList) -> SampleList:
        """Put ``pred_instances`` into every data sample: one box per query, in query order.

        Its fields: ``bboxes`` K x 4 xyxy in pixels of the original image, clipped to it;
        ``canvas_bboxes`` K x 4 in pixels of the network input, not clipped; ``scores`` K, always 1
        (TransVG rates no box); ``labels`` K, the query's index; ``label_names``, the query's text.
        """
        boxes = self.bbox_head(**self.encode(inputs))
        canvas = normalised_to_canvas(boxes, inputs['images'].shape[-2:])
        results = [
            self._to_instances(b, s.metainfo)
            for b, s in zip(split_by_image(canvas, data_samples), data_samples, strict=True)
        ]
        return self.add_pred_to_datasample(data_samples, results)

    @staticmethod
    def _to_instances(canvas_bboxes: Tensor, metainfo: dict) -> InstanceData:
        height, width = metainfo['ori_shape'][:2]
        bboxes = canvas_to_image(canvas_bboxes, metainfo)
        limits = bboxes.new_tensor([width, height, width, height])
        return InstanceData(
            bboxes=torch.minimum(bboxes.clamp(min=0), limits),
            canvas_bboxes=canvas_bboxes,
            scores=bboxes.new_ones(len(bboxes)),
            labels=torch.arange(len(bboxes), device=bboxes.device),
            label_names=list(metainfo['queries']),
        )

    def _forward(self, inputs: dict[str, Tensor], data_samples: list = None) -> Tensor:
        """Boxes of all queries, Q x 4 normalised cxcywh; needs no data samples."""
        return self.bbox_head(**self.encode(inputs))
