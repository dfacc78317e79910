import random

import pytest

from mmvg.datasets.transforms import FlipWithText, PlaceOnCanvas


@pytest.mark.parametrize(
    'height, width, top, left',
    [(480, 640, 80, 0), (481, 640, 79, 0), (640, 427, 0, 106), (1, 1, 319, 319), (640, 640, 0, 0)],
)
def test_centre(make_results, height, width, top, left):
    results = make_results(height, width, ((0.0, 0.0, 1.0, 1.0),))
    picture = results['img'].copy()
    out = PlaceOnCanvas(640)(results)
    assert out['img'].shape == (640, 640, 3) and out['img_shape'] == (640, 640)
    assert out['content_box'] == (left, top, left + width, top + height)
    assert out['gt_bboxes'].tensor.tolist() == [[left, top, left + 1, top + 1]]
    assert out['homography_matrix'].tolist() == [[1, 0, left], [0, 1, top], [0, 0, 1]]
    inside = out['img'][top : top + height, left : left + width]
    assert (inside == picture).all()
    assert out['img'].sum(dtype=int) == picture.sum(dtype=int)  # the rest is 0


def test_random_draws_top_then_left(make_results):
    random.seed(1)
    top, left = random.randint(0, 160), random.randint(0, 340)
    random.seed(1)
    out = PlaceOnCanvas((640, 640), position='random')(make_results(480, 300))
    assert out['content_box'] == (left, top, left + 300, top + 480)


def test_random_reaches_both_ends(make_results):
    tops = {
        PlaceOnCanvas((22, 20), position='random')(make_results(20, 20))['content_box'][1]
        for _ in range(60)
    }
    assert tops == {0, 1, 2}


def test_too_large_names_the_image(make_results):
    with pytest.raises(ValueError, match=r'picture.jpg is 640 x 480 px .* 512 x 512'):
        PlaceOnCanvas(512)(make_results())


def test_must_be_the_last_geometric_transform(make_results):
    with pytest.raises(ValueError, match='PlaceOnCanvas must come after'):
        FlipWithText(prob=1)(PlaceOnCanvas(640)(make_results()))


def test_refuses_unknown_position():
    with pytest.raises(ValueError, match='centre'):
        PlaceOnCanvas(640, position='corner')
