import random

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from mmvg.datasets.proposal_writer import ProposalWriter
from mmvg.datasets.transforms import (
    FlipWithText,
    LoadBoxProposals,
    PackGroundingInputs,
    PlaceOnCanvas,
    RandomSizeCrop,
    ResizeSide,
)
from mmvg.evaluation import GroundingMetric
from mmvg.structures import canvas_to_image
from mmvg.text import WordTable

BOXES = [[100.0, 120.0, 300.0, 360.0], [0.0, 0.0, 640.0, 480.0], [500.0, 10.0, 520.0, 30.0]]
SCORES = [0.5, 0.9, 0.1]
LABELS = [7, 1599, 0]


@pytest.fixture
def proposal_file(tmp_path):
    """Function that writes boxes of one picture and returns the path of the file."""

    def write(
        key='picture.jpg', bboxes=BOXES, scores=SCORES, labels=LABELS, size=(480, 640), **kwargs
    ):
        path = tmp_path / f'proposals{len(list(tmp_path.iterdir()))}'
        with ProposalWriter(path, {}) as writer:
            bboxes = np.array(bboxes, dtype=np.float32).reshape(-1, 4)
            writer.add(key, bboxes, np.array(scores), np.array(labels), size, **kwargs)
        return str(path)

    return write


def build(path=None, **kwargs):
    return TRANSFORMS.build(dict(type='LoadBoxProposals', proposal_file=path, **kwargs))


@pytest.mark.parametrize('key', ['picture.jpg', 'picture', '1'])
def test_picture_goes_by_name_stem_or_id(proposal_file, make_results, key):
    found = build(proposal_file(key))(make_results())['proposals']
    assert found.bboxes.tolist() == [BOXES[1], BOXES[0], BOXES[2]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert found.labels.tolist() == [1599, 7, 0] and found.labels.dtype == torch.int64


def test_best_ones_are_kept(proposal_file, make_results):
    path = proposal_file()
    assert build(path, max_proposals=2)(make_results())['proposals'].labels.tolist() == [1599, 7]
    found = build(path, min_score=0.6)(make_results())['proposals']
    assert found.labels.tolist() == [1599]
    assert len(build(path, min_score=0.95)(make_results())['proposals']) == 0


def test_features_come_with_their_boxes(proposal_file, make_results):
    path = proposal_file(features=np.arange(6, dtype=np.float16).reshape(3, 2))
    packed = PackGroundingInputs()(build(path, with_features=True, max_proposals=2)(make_results()))
    assert packed['data_samples'].proposals.features.tolist() == [[2, 3], [0, 1]]
    assert 'features' not in build(path)(make_results())['proposals']


def test_boxes_of_the_record(make_results):
    given = dict(bboxes=BOXES, scores=SCORES, labels=LABELS)
    results = build(max_proposals=2)(dict(make_results(), proposals=given))
    assert results['proposals'].labels.tolist() == [1599, 7]
    with pytest.raises(ValueError, match=r'annotations.json:3: .* has no proposals'):
        build()(make_results())


CHAINS = {
    'nothing': [],
    'resize': [dict(type='ResizeSide', scales=[320])],
    'flip': [dict(type='FlipWithText', prob=1.0)],
    'canvas': [dict(type='PlaceOnCanvas', size=700, position='random')],
    'all': [
        dict(type='ResizeSide', scales=[400, 500], side='short'),
        dict(type='FlipWithText', prob=1.0),
        dict(type='ResizeSide', scales=[512]),
        dict(type='PlaceOnCanvas', size=640, position='random'),
    ],
    'mmdet': [
        dict(type='mmdet.Resize', scale=(1000, 600), keep_ratio=True),
        dict(type='mmdet.RandomFlip', prob=1.0),
    ],
}


@pytest.mark.parametrize('first', [True, False])
@pytest.mark.parametrize('chain', CHAINS)
def test_proposals_move_as_true_boxes_do(proposal_file, make_results, chain, first):
    """The order of this transform and the geometric ones is free."""
    results = make_results(bboxes=[BOXES[i] for i in (1, 0, 2)])
    steps = [TRANSFORMS.build(step) for step in CHAINS[chain]]
    load = build(proposal_file())
    for step in [load, *steps] if first else [*steps, load]:
        results = step(results)
    sample = PackGroundingInputs()(results)['data_samples']
    # A resized picture has whole pixels, and what reaches over its border is cut off.
    torch.testing.assert_close(
        sample.proposals.bboxes, sample.gt_instances.bboxes, atol=0.5, rtol=0
    )
    back = canvas_to_image(sample.proposals.bboxes, sample.metainfo)
    torch.testing.assert_close(back, torch.tensor(BOXES)[[1, 0, 2]], atol=0.5, rtol=0)
    assert sample.proposals.labels.tolist() == [1599, 7, 0]
    assert sample.proposals.scores.tolist() == pytest.approx([0.9, 0.5, 0.1])
    if chain == 'nothing':
        assert sample.proposals.bboxes.tolist() == [BOXES[1], BOXES[0], BOXES[2]]


def test_crop_cuts_boxes_and_leaves_out_what_is_not_seen(proposal_file, make_results):
    for seed in range(20):
        random.seed(seed)
        torch.manual_seed(seed)
        results = build(proposal_file())(make_results())
        results = RandomSizeCrop(200, 300, check='fixed')(results)
        cropped = results['img_shape'] != (480, 640)
        results = PlaceOnCanvas(640, position='random')(results)
        left, top, right, bottom = results['content_box']
        sample = PackGroundingInputs()(results)['data_samples']
        bboxes, labels = sample.proposals.bboxes, sample.proposals.labels.tolist()
        assert (bboxes[:, 0::2] >= left).all() and (bboxes[:, 0::2] <= right).all()
        assert (bboxes[:, 1::2] >= top).all() and (bboxes[:, 1::2] <= bottom).all()
        assert (bboxes[:, 2:] > bboxes[:, :2]).all()
        whole = labels.index(1599)
        assert bboxes[whole].tolist() == [left, top, right, bottom]
        torch.testing.assert_close(bboxes[labels.index(7)], sample.gt_instances.bboxes[0])
        if cropped and 0 not in labels:
            return
    pytest.fail('no crop left the small box out')


def test_boxes_beyond_the_border_are_clipped_and_counted(proposal_file, make_results):
    bboxes = [[-30, 5, 50, 60], [600, 400, 640.5, 480], [700, 5, 800, 60], [5, 5, 5, 60]]
    load = build(proposal_file(bboxes=bboxes, scores=[4, 3, 2, 1], labels=[0, 1, 2, 3], size=None))
    found = load(make_results())['proposals']
    assert found.bboxes.tolist() == [[0, 5, 50, 60], [600, 400, 640, 480]]
    assert found.labels.tolist() == [0, 1]
    assert load.num_clipped == 2  # half a pixel is rounding
    load(make_results())
    assert load.num_clipped == 4


def test_no_proposals_at_all(proposal_file, make_results):
    load = build(proposal_file(bboxes=[], scores=[], labels=[]))
    results = PlaceOnCanvas(640)(FlipWithText(1.0)(ResizeSide(320)(load(make_results()))))
    proposals = PackGroundingInputs()(results)['data_samples'].proposals
    assert proposals.bboxes.shape == (0, 4) and len(proposals.labels) == 0


def test_other_picture_of_the_same_name_is_refused(proposal_file, make_results):
    with pytest.raises(ValueError, match=r'picture.jpg was 640 x 480 px .* now it is 64 x 48'):
        build(proposal_file())(make_results(48, 64, [[1.0, 1, 9, 9]]))


def test_missing_picture_and_mistakes(proposal_file, make_results):
    with pytest.raises(ValueError, match=r"no picture '1' or 'picture.jpg' or 'picture' among"):
        build(proposal_file('other.jpg'))(make_results())
    with pytest.raises(FileNotFoundError, match='extract_proposals.py'):
        LoadBoxProposals('nowhere')
    with pytest.raises(ValueError, match='max_proposals must be 1 or more, got 0'):
        LoadBoxProposals(max_proposals=0)


def test_samples_without_proposals_and_mmdets_are_packed_as_before(make_results):
    assert 'proposals' not in PackGroundingInputs()(make_results())['data_samples']
    given = dict(proposals=HorizontalBoxes(BOXES).tensor, proposals_scores=torch.tensor(SCORES))
    sample = PackGroundingInputs()(dict(make_results(), **given))['data_samples']
    assert sample.proposals.bboxes.tolist() == BOXES


def test_worker_processes_and_upper_bound(tmp_path):
    dataset = dict(type='ShapesGroundingDataset', num_scenes=4, name='val', test_mode=True)
    records = DATASETS.build(dict(dataset, pipeline=[]))
    with ProposalWriter(tmp_path / 'p', {}) as writer:
        for i in range(4):  # all true boxes of three pictures, nothing of the last
            record = records.get_data_info(i)
            bboxes = np.array(record['bboxes'] if i < 3 else np.zeros((0, 4)))
            scores = np.ones(len(bboxes))
            writer.add(record['img_path'], bboxes, scores, np.arange(len(bboxes)))
    pipeline = [
        dict(type='LoadGroundingImage'),
        dict(type='LoadQueryAnnotations'),
        dict(type='LoadBoxProposals', proposal_file=str(tmp_path / 'p')),
        dict(type='FlipWithText', prob=1.0),
        dict(type='PackGroundingInputs'),
    ]
    loader = DataLoader(
        DATASETS.build(dict(dataset, pipeline=pipeline)),
        batch_size=2,
        num_workers=1,
        collate_fn=pseudo_collate,
    )
    metric, total = GroundingMetric(), []
    for batch in loader:
        for sample in batch['data_samples']:
            count = len(sample.queries)
            total.append(count)
            sample.pred_instances = sample.gt_instances.clone()
            sample.pred_instances.canvas_bboxes = sample.pred_instances.bboxes
            sample.pred_instances.scores = torch.ones(count)
            sample.set_metainfo(dict(batch_input_shape=sample.img_shape))
            metric.process({}, [sample.to_dict()])
    figures = metric.compute_metrics(metric.results)
    assert figures['val/upper_bound@0.5'] == pytest.approx(100 * sum(total[:3]) / sum(total))


def write_table(path, names):
    size = len(names)
    path.write_bytes(WordTable(torch.eye(size), torch.eye(size), names, names).dumps())
    return str(path)


def test_labels_that_are_no_category_are_refused(proposal_file, make_results, tmp_path):
    path = proposal_file(labels=[2, 1, 0])
    table = write_table(tmp_path / 'three.safetensors', ['a', 'b', 'c'])
    for number in (3, table):
        found = build(path, num_categories=number)(make_results())['proposals']
        assert found.labels.tolist() == [1, 2, 0]
    message = rf'{path}: .*picture.jpg has a box with label 2, .* 2 categories.*--categories'
    with pytest.raises(ValueError, match=message):
        build(path, num_categories=2)(make_results())
    # The file of bottom-up attention has no labels; ReIR cannot do without.
    with pytest.raises(ValueError, match=r'picture.jpg has boxes without a label.*have labels'):
        build(proposal_file(labels=[-1, -1, -1]))(make_results())
    given = dict(bboxes=BOXES, scores=SCORES, labels=LABELS)
    with pytest.raises(ValueError, match=r'annotations.json:3: .* label 1599, .* 1599 categories'):
        build(num_categories=1599)(dict(make_results(), proposals=given))
