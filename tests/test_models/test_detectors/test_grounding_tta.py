import copy

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData

from mmvg.models.detectors import GroundingTTAModel


def view(bboxes, scores, flip=False, **metainfo) -> DetDataSample:
    sample = DetDataSample(
        metainfo=dict(flip=flip, queries=['right' if flip else 'left'] * 2, **metainfo)
    )
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(bboxes), scores=torch.tensor(scores), canvas_bboxes=torch.zeros(2, 4)
    )
    return sample


@pytest.fixture(scope='module')
def cfg(repository) -> Config:
    return Config.fromfile(str(repository / 'configs/transvg/transvg_shapes.py'))


@pytest.fixture(scope='module')
def tta(cfg) -> GroundingTTAModel:
    torch.manual_seed(0)
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(dict(type='GroundingTTAModel', module=copy.deepcopy(cfg.model))).eval()


def test_boxes_and_scores_are_means(tta):
    flipped = view([[2.0, 2, 4, 4], [0, 0, 8, 8]], [0.5, 0.25], flip=True)
    matrix = np.array([[2.0, 0, 1], [0, 2, 3], [0, 0, 1]])
    plain = view([[4.0, 2, 8, 4], [0, 0, 4, 8]], [1.0, 0.75], homography_matrix=matrix)
    (merged,) = tta.merge_preds([(flipped, plain)])
    expected = torch.tensor([[3.0, 2, 6, 4], [0, 0, 6, 8]])
    torch.testing.assert_close(merged.pred_instances.bboxes, expected)
    torch.testing.assert_close(merged.pred_instances.scores, torch.tensor([0.75, 0.5]))
    # words and geometry of the view that is not flipped
    assert merged.queries == ['left', 'left'] and merged.tta_view == 1
    canvas = expected * 2 + torch.tensor([1.0, 3, 1, 3])
    torch.testing.assert_close(merged.pred_instances.canvas_bboxes, canvas)
    # the views themselves stay as they are
    assert plain.pred_instances.bboxes[0, 0] == 4


def test_samples_are_merged_separately(tta):
    a, b = view([[0.0, 0, 2, 2]] * 2, [1.0, 1]), view([[4.0, 4, 8, 8]] * 2, [1.0, 1])
    merged = tta.merge_preds([(a, a), (b, b)])
    assert [m.pred_instances.bboxes[0, 0].item() for m in merged] == [0, 4]


def test_flipped_and_plain_view_are_averaged_in_original_pixels(cfg, tta):
    load, annotations, *finish = cfg.test_pipeline
    flips = [dict(type='FlipWithText', prob=p, swap='word') for p in (0.0, 1.0)]

    def predict(model, steps):
        dataset = dict(cfg.test_dataloader.dataset.datasets[0], num_scenes=2, pipeline=steps)
        built = DATASETS.build(copy.deepcopy(dataset))
        with torch.no_grad():
            return model.test_step(pseudo_collate([built[0], built[1]]))

    singles = [predict(tta.module, [load, annotations, f, *finish]) for f in flips]
    augment = dict(type='TestTimeAug', transforms=[flips, *[[step] for step in finish]])
    merged = predict(tta, [load, annotations, augment])
    assert len(merged) == 2
    for plain, flipped, both in zip(*singles, merged, strict=True):
        boxes = [s.pred_instances.bboxes for s in (plain, flipped)]
        assert (boxes[0] - boxes[1]).abs().max() > 1e-3
        torch.testing.assert_close(both.pred_instances.bboxes, sum(boxes) / 2)
        assert both.queries == plain.queries
        torch.testing.assert_close(both.gt_instances.bboxes, plain.gt_instances.bboxes)
