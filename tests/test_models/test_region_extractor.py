"""Boxes and features of tiny detectors with random weights, against plain computations."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou, roi_align

STRIDES = [4, 8, 16, 32]
NMS = dict(score_thr=0.3, nms=dict(type='nms', iou_threshold=0.7), max_per_img=3)
COMMON = dict(
    backbone=dict(type='ResNet', depth=18, base_channels=8, init_cfg=None),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5),
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, pad_size_divisor=32
    ),
)
FCOS = dict(
    type='FCOS',
    bbox_head=dict(
        type='FCOSHead',
        num_classes=5,
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
        norm_cfg=None,
        strides=[*STRIDES, 64],
    ),
    test_cfg=dict(nms_pre=100, **NMS),
    **COMMON,
)
ROI_ALIGN = dict(type='RoIAlign', output_size=5, sampling_ratio=2)
STAGE = dict(
    type='StandardRoIHead',
    bbox_roi_extractor=dict(
        type='SingleRoIExtractor', out_channels=16, featmap_strides=STRIDES, roi_layer=ROI_ALIGN
    ),
    bbox_head=dict(
        type='Shared2FCBBoxHead',
        in_channels=16,
        fc_out_channels=32,
        num_classes=5,
        roi_feat_size=5,
    ),
)
FASTER_RCNN = dict(
    type='FasterRCNN',
    train_cfg=None,
    rpn_head=dict(
        type='RPNHead',
        in_channels=16,
        feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[*STRIDES, 64]
        ),
    ),
    roi_head=STAGE,
    test_cfg=dict(
        rpn=dict(nms_pre=50, max_per_img=50, nms=dict(type='nms', iou_threshold=0.7)),
        rcnn=NMS,
    ),
    **COMMON,
)
DETECTORS = dict(fcos=FCOS, faster_rcnn=FASTER_RCNN)
PIPELINE = [dict(type='Resize', scale=(128, 96), keep_ratio=True), dict(type='PackDetInputs')]


def build(name, **settings):
    torch.manual_seed(3)
    settings = {'pipeline': PIPELINE, 'max_boxes': 12, **settings}
    extractor = MODELS.build(
        dict(type='RegionExtractor', detector=deepcopy(DETECTORS[name]), **settings)
    )
    if name == 'fcos':  # boxes are found, in several levels
        extractor.detector.bbox_head.conv_cls.bias.data.fill_(-1.0)
    return extractor


def frames_of(count, height=60, width=90, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, height // 10, width // 10, 3), dtype=np.uint8)
    return list(coarse.repeat(10, 1).repeat(10, 2))


def own_prediction(extractor, frame):
    """What the detector itself predicts of a frame, and its feature maps and scale factor."""
    data = extractor.prepare(frame)
    batch = dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
    batch = extractor.detector.data_preprocessor(batch)
    with torch.no_grad():
        (sample,) = extractor.detector.predict(batch['inputs'], batch['data_samples'])
        maps = extractor.detector.extract_feat(batch['inputs'])
    return sample.pred_instances, maps, sample.scale_factor


def plain_features(extractor, maps, boxes):
    """Mean over the RoI, or two FCs, level by level as FPN chooses it; of unit length."""
    pooled = []
    for box in boxes:
        side = ((box[2] - box[0]) * (box[3] - box[1])).sqrt().item()
        level = int(np.clip(np.floor(np.log2(side / 56 + 1e-6)), 0, 3))
        size = 5 if extractor.second_stage is not None else 7
        pooled.append(
            roi_align(maps[level], [box[None]], size, 1 / STRIDES[level], 2, aligned=True)
        )
    x = torch.cat(pooled)
    if extractor.second_stage is None:
        return F.normalize(x.mean((2, 3)))
    first, second = extractor.second_stage.bbox_head.shared_fcs
    return F.normalize(second(first(x.flatten(1)).relu()).relu())


@pytest.mark.parametrize('name', DETECTORS)
def test_boxes_are_the_detector_s_and_features_those_of_its_maps(name):
    extractor = build(name)
    frame = frames_of(1)[0]
    (regions,) = extractor([frame])
    own, maps, scale = own_prediction(extractor, frame)
    assert 3 < len(regions.bboxes) <= 12 and len(own) >= len(regions.bboxes)
    assert_array_equal(regions.bboxes, own.bboxes[: len(regions.bboxes)])
    assert_array_equal(regions.scores, own.scores[: len(regions.bboxes)])
    assert_array_equal(regions.labels, own.labels[: len(regions.bboxes)])
    assert regions.size == (60, 90) and scale == (128 / 90, 85 / 60)
    whole = torch.tensor([[0.0, 0.0, 90.0, 60.0]])
    boxes = torch.cat([torch.from_numpy(regions.bboxes), whole]) * torch.tensor([*scale, *scale])
    expected = plain_features(extractor, maps, boxes)
    assert_allclose(regions.features, expected[:-1], atol=1e-5)
    assert_allclose(regions.frame_feature, expected[-1], atol=1e-5)
    assert_allclose(np.linalg.norm(regions.features, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize('name', DETECTORS)
def test_nms_ignores_labels(name):
    (regions,) = build(name, nms_iou=0.4, score_thr=0.1)(frames_of(1, seed=2))
    ious = box_iou(*[torch.from_numpy(regions.bboxes)] * 2).fill_diagonal_(0)
    assert len(ious) > 1 and ious.max() <= 0.4 + 1e-4
    assert (np.diff(regions.scores) <= 0).all() and regions.scores.min() >= 0.1


def test_detectors_without_nms_get_one(monkeypatch):
    """As of the DETR family: all boxes, in any order."""
    extractor = build('fcos', score_thr=0.2, max_boxes=3)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(30, 2, generator=generator) * 40
    bboxes = torch.cat([corner, corner + 20], 1)
    scores = torch.rand(30, generator=generator)
    labels = torch.arange(30)

    def predict(inputs, samples):
        extractor.detector.extract_feat(inputs)
        for sample in samples:
            sample.pred_instances = InstanceData(bboxes=bboxes, scores=scores, labels=labels)
        return samples

    monkeypatch.setattr(extractor.detector, 'predict', predict)
    (regions,) = extractor(frames_of(1))
    kept = [i for i in batched_nms(bboxes, scores, labels * 0, 0.5).tolist() if scores[i] >= 0.2]
    assert len(kept) > 3
    assert_array_equal(regions.labels, kept[:3])
    assert_array_equal(regions.bboxes, bboxes[kept[:3]])


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one[:5], other[:5], strict=True):
            assert_allclose(a, b, atol=2e-5)
        assert one.size == other.size


@pytest.mark.parametrize('name', DETECTORS)
def test_neighbours_in_the_batch_do_not_matter(name):
    extractor = build(name, batch_size=1)
    frames = frames_of(3) + frames_of(2, 90, 60, seed=1) + frames_of(1, 60, 60, seed=2)
    alone = extractor(frames)
    for size in (2, 16):
        extractor.batch_size = size
        assert_same(extractor(frames), alone)
    assert [r.size for r in alone] == [(60, 90)] * 3 + [(90, 60)] * 2 + [(60, 60)]
    assert extractor([]) == []


@pytest.mark.parametrize('name', DETECTORS)
def test_backbone_and_neck_run_once(name):
    extractor, seen = build(name), []
    for part in (extractor.detector.backbone, extractor.detector.neck):
        part.register_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    extractor(frames_of(4))
    assert seen == ['ResNet', 'FPN']
    assert len(extractor.detector.neck._forward_hooks) == 1  # its own hook is gone


def test_frames_are_prepared_when_their_batch_comes(monkeypatch):
    extractor = build('fcos', batch_size=2)
    events, prepare, predict = [], extractor.prepare, extractor._predict_batch
    monkeypatch.setattr(extractor, 'prepare', lambda f: events.append('prepare') or prepare(f))
    monkeypatch.setattr(
        extractor, '_predict_batch', lambda batch: events.append(len(batch)) or predict(batch)
    )
    extractor(frames_of(3))
    assert events == ['prepare', 'prepare', 2, 'prepare', 1]


def test_no_box_and_no_detection():
    (regions,) = build('fcos', score_thr=0.99)(frames_of(1))
    assert regions.bboxes.shape == (0, 4) and regions.features.shape == (0, 16)
    assert regions.scores.shape == regions.labels.shape == (0,)
    assert_allclose(np.linalg.norm(regions.frame_feature), 1, rtol=1e-5)


def test_layer_average_and_own_roi_extractor():
    frame = frames_of(1)[0]
    own = dict(
        type='SingleRoIExtractor',
        out_channels=8,
        featmap_strides=[4],
        roi_layer=dict(type='RoIAlign', output_size=2, sampling_ratio=2),
    )
    extractor = build('fcos', roi_extractor=own, layer='backbone')
    (regions,) = extractor([frame])
    batch = dict(inputs=[extractor.prepare(frame)['inputs']], data_samples=None)
    maps = extractor.detector.backbone(extractor.detector.data_preprocessor(batch)['inputs'])
    whole = torch.tensor([[0.0, 0.0, 128.0, 85.0]])
    expected = roi_align(maps[0], [whole], 2, 1 / 4, 2, aligned=True).mean((2, 3))[0]
    assert_allclose(regions.frame_feature, F.normalize(expected, dim=0), atol=1e-5)
    (averaged,) = build('faster_rcnn', use_shared_fcs=False)([frame])
    assert averaged.features.shape == (len(averaged.bboxes), 16)


def test_second_stage_with_shared_head_and_no_neck():
    """R-CNN whose head is a stage of the backbone, as in bottom-up attention."""
    detector = deepcopy(FASTER_RCNN)
    detector.pop('neck')
    one_stage = dict(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    detector['backbone'] = dict(type='ResNet', depth=18, **one_stage)
    anchors = dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4])
    detector['rpn_head'].update(in_channels=64, anchor_generator=anchors)
    detector['roi_head'] = dict(
        type='StandardRoIHead',
        shared_head=dict(type='ResLayer', depth=18, stage=1, stride=2),
        bbox_roi_extractor=dict(STAGE['bbox_roi_extractor'], out_channels=64, featmap_strides=[4]),
        bbox_head=dict(
            type='BBoxHead', with_avg_pool=True, in_channels=128, num_classes=5, roi_feat_size=3
        ),
    )
    extractor = MODELS.build(dict(type='RegionExtractor', detector=detector, pipeline=PIPELINE))
    frame = frames_of(1)[0]
    (regions,) = extractor([frame])
    _, maps, scale = own_prediction(extractor, frame)
    whole = torch.tensor([[0.0, 0.0, 90.0, 60.0]]) * torch.tensor([*scale, *scale])
    pooled = roi_align(maps[0], [whole], 5, 1 / 4, 2, aligned=True)
    expected = extractor.second_stage.shared_head(pooled).mean((2, 3))[0]
    assert_allclose(regions.frame_feature, F.normalize(expected, dim=0).detach(), atol=1e-5)


def test_frozen_inside_a_model_in_training():
    extractor = build('faster_rcnn')
    parent = nn.Sequential(extractor, nn.BatchNorm1d(3)).train()
    assert parent[1].training and not any(module.training for module in extractor.modules())
    assert not any(p.requires_grad for p in extractor.parameters())
    frame = frames_of(1)
    before = extractor(frame)
    with torch.autocast('cpu', torch.bfloat16):
        assert_same(extractor(frame), before)
    assert_same(extractor(frame), before)


def test_checkpoint(tmp_path):
    wanted = build('fcos')
    path = str(tmp_path / 'fcos.pth')
    torch.save(dict(state_dict=wanted.detector.state_dict()), path)
    extractor = build('fcos', checkpoint=path)
    extractor.init_weights()  # as a runner does to all parts of a model
    frames = frames_of(2)
    assert_same(extractor(frames), wanted(frames))
    with pytest.raises(ValueError, match='fcos.pth'):
        build('faster_rcnn', checkpoint=path)
    with pytest.raises(FileNotFoundError, match='absent.pth does not exist'):
        build('fcos', checkpoint='absent.pth')


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="layer must be one of .*, not 'head'"):
        build('fcos', layer='head')
    detector = dict(FCOS, bbox_head=dict(type='CenterNetHead', in_channels=16, feat_channels=16))
    detector['bbox_head']['num_classes'] = 5
    with pytest.raises(ValueError, match='which maps FCOS has is not known; give roi_extractor'):
        MODELS.build(dict(type='RegionExtractor', detector=detector))


def test_config_is_left_alone():
    config = deepcopy(FCOS)
    MODELS.build(dict(type='RegionExtractor', detector=config))
    assert config == FCOS
