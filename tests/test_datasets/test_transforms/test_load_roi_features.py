import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from mmengine.dataset import Compose

from mmvg.datasets.proposal_file import Proposals
from mmvg.datasets.proposal_writer import ProposalWriter
from mmvg.datasets.roi_feature_file import RoIFeatures, RoIFeatureWriter
from mmvg.structures import canvas_to_image

BOXES = np.array([[10, 20, 300, 360], [0, 0, 640, 480]], np.float32)
SCORES, LABELS = np.array([0.9, 0.5], np.float32), np.array([7, 3])
SIZE, INPUT = (480, 640), (240, 320)


@pytest.fixture
def path(tmp_path):
    """File of one picture, 640 x 480 px, which comes to the network at half its size."""
    proposals = Proposals(BOXES, SCORES, LABELS, np.arange(8, dtype=np.float32).reshape(2, 4), SIZE)
    feature_map = np.arange(3 * 15 * 20, dtype=np.float16).reshape(3, 15, 20)
    path = tmp_path / 'features'
    with RoIFeatureWriter(path, dict(source=dict(backbone='abc'), maps='float16')) as writer:
        half = np.diag([0.5, 0.5, 1.0])
        writer.add_features('picture.jpg', RoIFeatures(proposals, INPUT, half, feature_map))
    return str(path)


def record(**extra):
    """As a data set gives it: the picture need not exist."""
    return dict(
        dict(img_path='nowhere/picture.jpg', img_id=1, queries=['a dog'], source='line 1'), **extra
    )


def build(path, **kwargs):
    return TRANSFORMS.build(dict(type='LoadRoIFeatures', feature_file=path, **kwargs))


def test_map_takes_the_place_of_the_picture(path):
    pipeline = Compose([build(path, maps=True), dict(type='PackGroundingInputs')])
    packed = pipeline(record(img=np.zeros((480, 640, 3), np.uint8)))
    expected = torch.arange(3 * 15 * 20).view(3, 15, 20).half()
    assert packed['inputs'].dtype == torch.float16 and torch.equal(packed['inputs'], expected)
    sample = packed['data_samples']
    assert (sample.ori_shape, sample.img_shape, sample.flip) == (SIZE, INPUT, False)
    assert sample.scale_factor == (0.5, 0.5)
    proposals = sample.proposals
    np.testing.assert_allclose(proposals.bboxes, BOXES / 2)
    assert proposals.features.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert proposals.labels.tolist() == [7, 3] and proposals.scores.tolist() == SCORES.tolist()
    assert proposals.feature_source == dict(backbone='abc') and proposals.feature_file == path
    np.testing.assert_allclose(canvas_to_image(proposals.bboxes, sample.metainfo), BOXES)


def test_annotated_boxes_come_to_the_network_input(path):
    pipeline = Compose([build(path, annotations=True), dict(type='PackGroundingInputs')])
    packed = pipeline(record(bboxes=[[100, 120, 300, 360]]))
    assert 'inputs' not in packed
    assert packed['data_samples'].gt_instances.bboxes.tolist() == [[50, 60, 150, 180]]
    with pytest.raises(
        ValueError, match='line 1, image nowhere/picture.jpg: box outside the image'
    ):
        pipeline(record(bboxes=[[700, 120, 800, 360]]))
    without = Compose([build(path), dict(type='PackGroundingInputs')])(
        record(bboxes=[[100, 120, 300, 360]])
    )
    assert not len(without['data_samples'].gt_instances)


def loaded(matrix=None, **extra):
    """The record behind the loading and resizing of its picture."""
    matrix = np.diag([0.5, 0.5, 1.0]) if matrix is None else matrix
    shapes = dict(ori_shape=SIZE, img_shape=INPUT, homography_matrix=matrix, flip=False)
    return record(img=np.zeros((*INPUT, 3), np.uint8), **(shapes | extra))


def test_picture_that_is_loaded_stays(path):
    results = build(path)(loaded(scale_factor=(0.5, 0.5)))
    assert (
        results['img'].shape == (*INPUT, 3)
        and results['proposals'].bboxes.tolist() == BOXES.tolist()
    )


@pytest.mark.parametrize(
    'change, message',
    [
        (
            dict(ori_shape=(400, 640)),
            'has 640 x 400 px, its features were made of one of 640 x 480',
        ),
        (dict(img_shape=(300, 400)), 'comes to the network as 400 x 300 px .* of 320 x 240 px'),
        (
            dict(matrix=np.array([[-0.5, 0, 320], [0, 0.5, 0], [0, 0, 1]])),
            'comes .* flips and crops are not',
        ),
        (dict(flip=True), 'comes .* flips and crops are not possible; make another file'),
    ],
)
def test_other_views_are_refused(path, change, message):
    with pytest.raises(ValueError, match=f'RoI feature file {path}: nowhere/picture.jpg {message}'):
        build(path)(loaded(**change))


def test_picture_of_another_size_and_unknown_pictures_are_refused(path):
    with pytest.raises(ValueError, match='is of 640 x 480 px, its annotation says 640 x 400 px'):
        build(path, maps=True)(record(height=400, width=640))
    with pytest.raises(ValueError, match=r"no picture '1' or 'x.jpg' or 'x' among its 1"):
        build(path)(dict(record(), img_path='x.jpg'))


KEPT = (2, {}), (1, dict(max_proposals=1)), (1, dict(min_score=0.6)), (0, dict(min_score=0.95))


@pytest.mark.parametrize('size, options', KEPT)
def test_the_best_of_the_proposals_may_be_kept(path, size, options):
    """With their features, as if the file had been made of them only."""
    found = build(path, **options)(record())['proposals']
    assert found.bboxes.tolist() == BOXES[:size].tolist() and len(found.scores) == size
    assert found.features.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]][:size]
    assert found.feature_source == dict(backbone='abc') and found.input_size == INPUT


def test_proposals_must_be_those_of_the_features(path, tmp_path):
    with ProposalWriter(tmp_path / 'proposals', {}) as writer:
        writer.add('picture.jpg', BOXES, SCORES, LABELS, SIZE)
    for size, options in KEPT:
        step = build(path, proposal_file=str(tmp_path / 'proposals'), **options)
        assert len(step(record())['proposals']) == size
    more = np.concatenate([BOXES, [[5, 5, 90, 90]]], dtype=np.float32)
    with ProposalWriter(tmp_path / 'more', {}) as writer:
        writer.add('picture.jpg', more, np.array([0.9, 0.5, 0.1]), np.array([7, 3, 1]), SIZE)
    assert (
        len(build(path, proposal_file=str(tmp_path / 'more'), min_score=0.2)(record())['proposals'])
        == 2
    )
    with pytest.raises(ValueError, match=r'has other proposals \(bboxes\) than its features'):
        build(path, proposal_file=str(tmp_path / 'more'))(record())
    given = dict(bboxes=BOXES, scores=SCORES, labels=LABELS + 1)
    with pytest.raises(ValueError, match=r'has other proposals \(labels\)'):
        build(path)(record(proposals=given))
