import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from torch import Tensor

from ..feature_source import check_source


class FrozenRoIDetector(BaseDetector):
    """A detector that sees boxes by a frozen visual branch, whose features can be cached.

    Args:
        backbone (dict): Gives one feature map per image; frozen.
        roi_extractor (dict): Such as mmdet's ``SingleRoIExtractor``.
        shared_head (dict, optional): Applied to RoI features, such as mmdet's ``ResLayer`` (the last
            stage of the backbone); frozen.
    """

    checked_source = None  # what the cached features come from that were found to fit

    def __init__(
        self,
        backbone: ConfigType,
        roi_extractor: ConfigType,
        shared_head: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.roi_extractor = MODELS.build(roi_extractor)
        self.shared_head = MODELS.build(shared_head) if shared_head else torch.nn.Identity()
        for frozen in (self.backbone, self.shared_head):
            frozen.requires_grad_(False)

    def train(self, mode: bool = True) -> 'FrozenRoIDetector':
        """Set the mode; backbone and shared head stay in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        self.shared_head.eval()
        return self

    @torch.no_grad()
    def extract_feat(self, inputs: dict[str, Tensor]) -> Tensor:
        """Feature map of every image: a cached one, or the backbone's."""
        if 'feature_map' in inputs:
            return inputs['feature_map']
        if 'pictures' in inputs:
            return self.backbone(self.data_preprocessor.stack(inputs['pictures']))[-1]
        return self.backbone(inputs['images'])[-1]

    @torch.no_grad()
    def extract_rois(self, feature_map: Tensor, boxes: Tensor, present: Tensor) -> Tensor:
        """B x R x D vectors of B x R boxes; 0 where there is none."""
        there = present.nonzero(as_tuple=True)  # once: the host of a GPU waits for it
        rois = torch.cat([there[0].unsqueeze(1).to(boxes.dtype), boxes[there]], 1)
        # In float32, even of a bfloat16 map: the extractor gives boxes the type of the map, and with it
        # corners near 900 px would move by up to 2 px.
        pooled = self.roi_extractor([feature_map.float()], rois).to(feature_map.dtype)
        feats = self.shared_head(pooled).mean((2, 3))
        padded = feats.new_zeros(*present.shape, feats.shape[-1])
        padded[there] = feats
        return padded

    @torch.no_grad()
    def extract_pictures(self, feature_map: Tensor, inputs: dict) -> Tensor:
        """B x D vectors of whole pictures, without what the batch is filled up with."""
        features = self.shared_head(feature_map)
        inside = features.new_ones(len(features), 1, 1, 1)
        for dim in (-2, -1):
            steps = torch.arange(features.shape[dim], device=features.device)
            cells = inputs['image_sizes'][:, dim] / self.roi_extractor.featmap_strides[0]
            kept = steps < (cells * features.shape[dim] / feature_map.shape[dim]).unsqueeze(1)
            inside = inside * (kept[:, None, None] if dim == -1 else kept[:, None, :, None])
        return (features * inside).sum((2, 3)) / inside.sum((2, 3))

    def check_cached(self, source: dict[str, str], path: str) -> None:
        """Raise ValueError unless cached features, of file ``path``, come from this visual branch."""
        if self.checked_source != source:
            check_source(self, source, path)
            self.checked_source = source
