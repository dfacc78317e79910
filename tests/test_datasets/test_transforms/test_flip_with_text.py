import numpy as np
import pytest

from mmvg.datasets.transforms import FlipWithText

TEXTS = [
    # query, swapped by substring (as released), swapped by word
    ('man on the left', 'man on the right', 'man on the right'),
    (
        'right dog, left of the right cat',
        'left dog, right of the left cat',
        'left dog, right of the left cat',
    ),
    ('bright shirt', 'bleft shirt', 'bright shirt'),
    ('upright piano', 'upleft piano', 'upright piano'),
    ('playwright', 'playwleft', 'playwright'),
    ('leftover pizza', 'rightover pizza', 'leftover pizza'),
    ('leftmost', 'rightmost', 'rightmost'),
    ('far-right', 'far-left', 'far-left'),
    ('left-hand side', 'right-hand side', 'right-hand side'),
    ('righthand', 'lefthand', 'lefthand'),
    ('leftside', 'rightside', 'rightside'),
    ('topright corner', 'topleft corner', 'topleft corner'),
    ('lefty', 'righty', 'righty'),
    ("the right's hat", "the left's hat", "the left's hat"),
    ('left_one 2left', 'right_one 2right', 'right_one 2right'),
    ('Left LEFT', 'Right RIGHT', 'Right RIGHT'),
    ('éleft gauche à la left', 'éright gauche à la right', 'éleft gauche à la right'),
    ('the man', 'the man', 'the man'),
]


@pytest.mark.parametrize('query, substring, word', TEXTS)
def test_text(make_results, query, substring, word):
    for swap, expected in (('substring', substring), ('word', word)):
        flip = FlipWithText(prob=1, swap=swap)
        once = flip(make_results(32, 32, queries=[query]))
        assert once['queries'] == [expected]
        assert flip(once)['queries'] == [query]


@pytest.mark.parametrize('swap', ['substring', 'word'])
def test_twice_is_the_identity(make_results, swap):
    queries = [t[0] for t in TEXTS]
    bboxes = [[float(i), 2.0, 30.0 + i, 40.5] for i in range(len(queries))]
    before = make_results(60, 90, bboxes, queries)
    flip = FlipWithText(prob=1, swap=swap)
    once = flip(make_results(60, 90, bboxes, queries))
    assert once['flip'] is True and once['flip_direction'] == 'horizontal'
    np.testing.assert_array_equal(once['img'], before['img'][:, ::-1])
    assert once['gt_bboxes'].tensor[0].tolist() == [60, 2, 90, 40.5]
    twice = flip(once)
    np.testing.assert_array_equal(twice['img'], before['img'])
    np.testing.assert_allclose(twice['gt_bboxes'].tensor, before['gt_bboxes'].tensor)
    np.testing.assert_array_equal(twice['homography_matrix'], np.eye(3))
    assert twice['queries'] == queries
    assert twice['flip'] is False and twice['flip_direction'] is None


def test_never_and_unknown(make_results):
    out = FlipWithText(prob=0)(make_results(queries=['left']))
    assert out['queries'] == ['left'] and out['flip'] is False
    with pytest.raises(ValueError, match='word'):
        FlipWithText(swap='none')
