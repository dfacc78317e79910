from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import groupby, islice

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModule, revert_sync_batchnorm
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import nms

from mmvg.checkpoints import load_weights

from ..structures.regions import Regions

LAYERS = ('neck', 'backbone')


@MODELS.register_module()
class RegionExtractor(BaseModule):
    """A frozen detector that tells where things are in frames, and what they look like (spec vcma 1.4).

    The detector runs once per frame: features are read from the maps of its own prediction. A
    feature is the RoIAlign of a box on them, put through the fully connected layers of the detector's
    second stage, or averaged, and scaled to unit length. The box of the whole frame gives that of the
    frame. Always in evaluation mode, in full precision and without gradients.

    Args:
        detector (dict): Config of a detector of mmdet, with one stage or two.
        checkpoint (str, optional): Its weights. Without it ``init_cfg`` of the detector holds, or they
            come with those of a model that this is a part of.
        pipeline (Sequence[dict], optional): Steps that prepare a loaded frame; the detector's test
            pipeline less loading and annotations. By default it is only packed.
        roi_extractor (dict, optional): Such as mmdet's ``SingleRoIExtractor``. By default the second
            stage's; for one stage, RoIAlign of ``roi_size`` on the levels of the detector's head.
        roi_size (int): Of the default for one stage.
        layer (str): Maps of the ``'neck'`` (of the backbone, if there is none) or the ``'backbone'``.
        use_shared_fcs (bool): Use the layers that a second stage has before it branches.
        score_thr (float): Least score.
        nms_iou (float): Of two boxes with a larger IoU the better stays, whatever their labels.
        max_boxes (int): N, per frame at most.
        batch_size (int): Frames that the detector sees at once.

    Raises:
        FileNotFoundError, ValueError: If the checkpoint or the arguments do not fit the detector.
    """

    def __init__(
        self,
        detector: dict,
        checkpoint: str | None = None,
        pipeline: Sequence[dict] | None = None,
        roi_extractor: dict | None = None,
        roi_size: int = 7,
        layer: str = 'neck',
        use_shared_fcs: bool = True,
        score_thr: float = 0.05,
        nms_iou: float = 0.5,
        max_boxes: int = 20,
        batch_size: int = 8,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if layer not in LAYERS:
            raise ValueError(f'layer must be one of {LAYERS}, not {layer!r}')
        self.score_thr = score_thr
        self.nms_iou = nms_iou
        self.max_boxes = max_boxes
        self.batch_size = batch_size
        detector = ConfigDict(deepcopy(detector))
        let_boxes_through(detector, max_boxes, score_thr, nms_iou, class_agnostic=True)
        self.detector = revert_sync_batchnorm(MODELS.build(detector))
        self.has_checkpoint = checkpoint is not None
        if self.has_checkpoint:
            load_weights(self.detector, checkpoint)
        self.detector.requires_grad_(False)
        self._use_neck = layer == 'neck' and self.detector.with_neck
        own = _last(getattr(self.second_stage, 'bbox_roi_extractor', None))
        if roi_extractor is None and own is None:
            roi_extractor = _default_extractor(self.detector, roi_size)
        # The detector's own one is not registered twice.
        self.roi_extractor = MODELS.build(roi_extractor) if roi_extractor else None
        self.use_shared_fcs = use_shared_fcs
        # The first one loads: frames have been read, but the others need what it sets.
        steps = pipeline if pipeline is not None else [dict(type='PackDetInputs')]
        self.pipeline = Compose([dict(type='LoadGroundingImage'), *steps])
        self.train(False)

    @property
    def second_stage(self) -> nn.Module | None:
        """``roi_head`` of the detector."""
        return getattr(self.detector, 'roi_head', None)

    def train(self, mode: bool = True) -> 'RegionExtractor':
        """Stay in evaluation mode, whatever the model does that this is a part of."""
        return super().train(False)

    def init_weights(self) -> None:
        """Initialise the detector, unless it has its weights."""
        if not self.has_checkpoint:
            super().init_weights()

    def prepare(self, frame: np.ndarray) -> dict:
        """What :meth:`predict` takes of a frame (H x W x 3 BGR uint8), for workers to compute."""
        return self.pipeline(dict(img=frame, img_id=0, img_path='frame'))

    def forward(self, frames: Sequence[np.ndarray]) -> list[Regions]:
        """Regions of frames, H x W x 3 BGR uint8."""
        return self.predict(self.prepare(frame) for frame in frames)

    @torch.no_grad()
    def predict(self, prepared: Iterable[dict]) -> list[Regions]:
        """Regions of frames that :meth:`prepare` prepared, taken one batch after the other.

        Frames of different size are not put into one batch: regions never depend on the others.
        """
        device = next(self.detector.parameters()).device
        self.detector.to(device)  # tells its data preprocessor, which a parent's ``to`` does not
        regions = []
        with torch.autocast(device.type, enabled=False):
            for _, group in groupby(prepared, key=lambda frame: frame['inputs'].shape):
                while batch := list(islice(group, self.batch_size)):
                    regions += self._predict_batch(batch)
        return regions

    def _predict_batch(self, batch: list[dict]) -> list[Regions]:
        data = self.detector.data_preprocessor(pseudo_collate(batch), False)
        with self._captured_maps() as captured:
            samples = self.detector.predict(data['inputs'], data['data_samples'])
        (maps,) = captured
        found = [self._best(sample) for sample in samples]
        rois = []
        for i, (sample, (bboxes, _, _)) in enumerate(zip(samples, found, strict=True)):
            height, width = sample.ori_shape[:2]
            boxes = torch.cat([bboxes, bboxes.new_tensor([[0, 0, width, height]])])
            on_input = boxes * boxes.new_tensor(sample.scale_factor).repeat(2)
            rois.append(F.pad(on_input, (1, 0), value=i))
        features = F.normalize(self.roi_features(maps, torch.cat(rois)), dim=1)
        features = features.split([len(r) for r in rois])
        return [
            Regions(
                *(x.cpu().numpy() for x in (*boxes, feature[:-1], feature[-1])),
                tuple(map(int, sample.ori_shape[:2])),
            )
            for sample, boxes, feature in zip(samples, found, features, strict=True)
        ]

    @contextmanager
    def _captured_maps(self):
        """List that receives the feature maps of the detector's own forward pass."""
        maps = []
        source = self.detector.neck if self._use_neck else self.detector.backbone
        handle = source.register_forward_hook(lambda module, inputs, output: maps.append(output))
        try:
            yield maps
        finally:
            handle.remove()

    def _best(self, sample: DetDataSample) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels, the best first; also of detectors that do no NMS themselves."""
        found = sample.pred_instances
        kept = found.scores >= self.score_thr
        bboxes, scores, labels = (x[kept] for x in (found.bboxes, found.scores, found.labels))
        best = nms(bboxes, scores, self.nms_iou)[: self.max_boxes]
        return bboxes[best], scores[best], labels[best]

    def roi_features(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """R x D features, before scaling.

        Args:
            maps (Sequence[Tensor]): B x C x h x w per level.
            rois (Tensor): R x 5, (frame of the batch, x1, y1, x2, y2) in px of the network input.
        """
        stage = self.second_stage
        extract = self.roi_extractor or _last(stage.bbox_roi_extractor)
        x = extract(tuple(maps)[: extract.num_inputs], rois)
        if stage is not None and stage.with_shared_head:
            x = stage.shared_head(x)
        head = _last(getattr(stage, 'bbox_head', None)) if self.use_shared_fcs else None
        for conv in getattr(head, 'shared_convs', None) or ():
            x = conv(x)
        if not getattr(head, 'num_shared_fcs', 0):
            return x.mean((2, 3))
        x = (head.avg_pool(x) if head.with_avg_pool else x).flatten(1)
        for layer in head.shared_fcs:
            x = head.relu(layer(x))
        return x


def let_boxes_through(
    detector: dict,
    max_boxes: int,
    score_thr: float,
    nms_iou: float | None = None,
    class_agnostic: bool = False,
) -> None:
    """Let the last stage of a detector (its config, changed) give as many boxes as are wanted.

    Args:
        detector (dict): Config of a detector of mmdet.
        max_boxes (int): It gives as many at least, if it finds them.
        score_thr (float): Least score, in place of its own, which is meant for few sure boxes.
        nms_iou (float, optional): In place of its own.
        class_agnostic (bool): Let NMS keep a box once, with its best label.
    """
    test_cfg = detector.get('test_cfg') or {}
    test_cfg = test_cfg.get('rcnn') or test_cfg
    if 'score_thr' in test_cfg:
        test_cfg['score_thr'] = score_thr
    if 'max_per_img' in test_cfg:
        test_cfg['max_per_img'] = max(test_cfg['max_per_img'], max_boxes)
    if 'nms' in test_cfg:
        if class_agnostic:
            test_cfg['nms']['class_agnostic'] = True
        if nms_iou is not None:
            test_cfg['nms']['iou_threshold'] = nms_iou


def _last(module: nn.Module | None) -> nn.Module | None:
    """The last stage of a cascade."""
    return module[-1] if isinstance(module, nn.ModuleList) else module


def _default_extractor(detector: nn.Module, size: int) -> dict:
    """RoIAlign on the maps that a head of one stage looks at, the four finest at most."""
    head = getattr(detector, 'bbox_head', None)
    priors, channels = getattr(head, 'prior_generator', None), getattr(head, 'in_channels', None)
    if priors is None or not isinstance(channels, int):
        raise ValueError(
            f'which maps {type(detector).__name__} has is not known; give roi_extractor, such as '
            "dict(type='SingleRoIExtractor', featmap_strides=[8, 16, 32], out_channels=256, "
            "roi_layer=dict(type='RoIAlign', output_size=7))"
        )
    return dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=2),
        out_channels=channels,
        featmap_strides=[stride[0] for stride in priors.strides][:4],
    )
