import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmvg.visualization import draw_grounding
from mmvg.visualization import grounding_visualizer as module
from mmvg.visualization.grounding_visualizer import draw_sample, query_colour

IMAGE = np.full((64, 64, 3), 100, dtype=np.uint8)
BOX = np.array([[10.0, 20, 30, 40]])


def coloured(picture: np.ndarray, index: int) -> np.ndarray:
    return (picture == np.array(query_colour(index), dtype=np.uint8)).all(-1)


def sample(bboxes=None, gt_bboxes=None, queries=('the circle',), **metainfo) -> DetDataSample:
    result = DetDataSample(metainfo=dict(queries=list(queries), ori_shape=(64, 64), **metainfo))
    if bboxes is not None:
        result.pred_instances = InstanceData(bboxes=torch.as_tensor(bboxes).float())
    if gt_bboxes is not None:
        result.gt_instances = InstanceData(bboxes=torch.as_tensor(gt_bboxes).float())
    return result


def test_colours_of_queries_differ():
    assert len({query_colour(i) for i in range(40)}) == 40


def test_small_pictures_are_enlarged_and_boxes_with_them():
    picture = draw_grounding(IMAGE, ['the circle'], BOX)
    assert picture.shape[1] == 320 and picture.shape[0] > 320
    mask = coloured(picture[:320], 0)
    assert mask[100, 60:140].all() and mask[120:190, 50].all()
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (100, 200, 50, 150)


def test_large_pictures_keep_their_size():
    picture = draw_grounding(np.zeros((400, 330, 3), np.uint8), ['the circle'], BOX)
    assert picture.shape[1] == 330


def test_truth_is_dashed_in_the_colour_of_its_query():
    picture = draw_grounding(IMAGE, ['the circle', 'the square'], gt_bboxes=np.tile(BOX, (2, 1)))
    edge = coloured(picture, 1)[100, 70:150]
    assert edge.any() and not edge.all()


def test_iou_is_written(monkeypatch):
    seen = {}

    def legend(width, queries, notes, font, key, colours):
        seen.update(queries=list(queries), notes=notes, key=key)
        return module.Image.new('RGB', (width, 1))

    monkeypatch.setattr(module, '_legend', legend)
    draw_grounding(
        IMAGE, ['a', 'b'], np.tile(BOX, (2, 1)), np.array([[10, 20, 30, 40], [20, 20, 40, 40]])
    )
    assert seen['queries'] == ['a', 'b']
    assert seen['notes'] == ['(IoU 1.00)', '(IoU 0.33)']
    assert 'dashed: ground truth' in seen['key']
    draw_grounding(IMAGE, ['a', 'b'], np.tile(BOX, (2, 1)))
    assert seen['notes'] == ['', ''] and not seen['key']


def test_truth_is_mapped_back_from_the_network_input():
    # original (10, 20, 30, 40) -> enlarged twice, shifted by (8, 4)
    matrix = np.array([[2.0, 0, 8], [0, 2, 4], [0, 0, 1]])
    drawn = draw_sample(IMAGE, sample(gt_bboxes=[[28, 44, 68, 84]], homography_matrix=matrix))
    np.testing.assert_array_equal(drawn, draw_grounding(IMAGE, ['the circle'], gt_bboxes=BOX))


def test_drawing_can_be_restricted():
    both = sample(BOX, BOX + 5)
    np.testing.assert_array_equal(
        draw_sample(IMAGE, both, draw_gt=False), draw_grounding(IMAGE, ['the circle'], BOX)
    )
    np.testing.assert_array_equal(
        draw_sample(IMAGE, both, draw_pred=False),
        draw_grounding(IMAGE, ['the circle'], None, BOX + 5),
    )


@pytest.mark.parametrize(
    'query', ['größter Kreis', '左边的红色圆圈', 'العربية', '\U0001f534 \n\t x', 'w' * 900]
)
def test_any_text_can_be_drawn(query):
    short = draw_grounding(IMAGE, ['x'], BOX)
    assert draw_grounding(IMAGE, [query], BOX).shape[0] >= short.shape[0]


def test_long_queries_are_wrapped():
    heights = [draw_grounding(IMAGE, ['circle ' * n], BOX).shape[0] for n in (1, 20, 60)]
    assert heights == sorted(set(heights))


def test_degenerate_and_outside_boxes_are_drawn():
    boxes = np.array([[5.0, 5, 5, 5], [30, 30, 20, 20], [-50, -50, 500, 500], [np.nan] * 4])
    picture = draw_grounding(IMAGE, list('abcd'), boxes)
    assert coloured(picture[:320], 0).any()


def test_frame_is_outlined():
    picture = draw_grounding(IMAGE, ['a'], frame=(10, 10, 50, 50))
    assert (picture[50, 60:240] == 255).all()


def test_wrong_number_of_boxes_is_refused():
    with pytest.raises(ValueError, match='2 queries but 1 predicted boxes'):
        draw_grounding(IMAGE, ['a', 'b'], BOX)


def test_visualizer_writes_files_and_backends(tmp_path):
    visualizer = VISUALIZERS.build(
        dict(
            type='GroundingVisualizer',
            name='test_visualizer',
            vis_backends=[dict(type='LocalVisBackend')],
            save_dir=str(tmp_path),
        )
    )
    out_file = tmp_path / 'new' / 'picture.png'
    visualizer.add_datasample('a', IMAGE, sample(BOX, BOX), out_file=str(out_file))
    expected = draw_grounding(IMAGE, ['the circle'], BOX, BOX)
    np.testing.assert_array_equal(mmcv.imread(out_file)[..., ::-1], expected)
    np.testing.assert_array_equal(visualizer.get_image(), expected)
    visualizer.add_datasample('b', IMAGE, sample(BOX), step=3)
    assert [p.name for p in tmp_path.rglob('b_3.png')] == ['b_3.png']
