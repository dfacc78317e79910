"""Linking of detections: analytic check E of spec vcma 1.10, and brute force."""

import itertools

import numpy as np
import pytest
from mmdet.registry import TASK_UTILS
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment

import mmvg  # noqa: F401
from mmvg.models.task_modules.tube_linker import best_path

BOXES = [
    np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32),
    np.array([[4, 0, 14, 10], [14, 0, 24, 10]], np.float32),
    np.array([[12, 0, 22, 10], [5, 0, 15, 10]], np.float32),
]
FEATURES = [
    np.array([[1, 0], [0, 1]], np.float32),
    np.array([[0.8, 0.6], [0.6, 0.8]], np.float32),
    np.array([[1, 0], [0, 1]], np.float32),
]
SIZE = (20, 40)


def linker(**settings):
    return TASK_UTILS.build(dict(type='TubeLinker', **settings))


def test_link_scores():
    link = linker()
    first = link.link_scores(BOXES[0], BOXES[1], FEATURES[0], FEATURES[1])
    assert_allclose(first, [[0.614286, 0.3], [0.3, 0.525]], atol=1e-6)
    second = link.link_scores(BOXES[1], BOXES[2], FEATURES[1], FEATURES[2])
    assert_allclose(second, [[0.455556, 0.709091], [0.633333, 0.426316]], atol=1e-6)


@pytest.mark.parametrize(
    ('alpha', 'rows', 'totals'),
    [
        (0.5, [[0, 0, 1], [1, 1, 0]], [1.323377, 1.158333]),
        (0.0, [[0, 0, 1], [1, 1, 0]], [1.246753, None]),
        (1.0, [[0, 0, 0], [1, 1, 1]], [1.6, 1.6]),
    ],
)
def test_best_path_then_the_next(alpha, rows, totals):
    tubes = linker(alpha=alpha)(BOXES, SIZE, FEATURES)
    assert_array_equal(tubes.rows, rows)
    for score, total in zip(tubes.scores, totals):
        assert total is None or score * 2 == pytest.approx(total, abs=1e-6)
    assert_array_equal(tubes.bboxes[0], [BOXES[f][r] for f, r in enumerate(rows[0])])


def test_without_features_only_overlap_counts():
    assert_array_equal(linker()(BOXES, SIZE).rows, linker(alpha=0)(BOXES, SIZE, FEATURES).rows)


def test_the_best_path_is_not_the_greedy_one():
    links = np.array([[[0.60, 0.55], [0, 0]], [[0.10, 0.0], [0.90, 0.0]]])
    path = best_path(links, np.array([[0, -np.inf], [0, 0], [0, 0]]))
    assert_array_equal(path, [0, 1, 0])
    assert links[0, 0, 1] + links[1, 1, 0] == pytest.approx(1.45)


def test_it_equals_brute_force():
    rng = np.random.RandomState(0)
    for _ in range(200):
        links, unary = rng.rand(3, 4, 4), rng.rand(4, 4)
        totals = {
            path: sum(links[f, path[f], path[f + 1]] for f in range(3))
            + sum(unary[f, k] for f, k in enumerate(path))
            for path in itertools.product(range(4), repeat=4)
        }
        assert tuple(best_path(links, unary)) == max(totals, key=totals.get)


def test_scores_of_detections_count_if_wanted():
    scores = [np.array([0, 9.0]), np.array([0, 9.0]), np.array([9.0, 0])]
    assert_array_equal(linker(score_weight=1.0)(BOXES, SIZE, FEATURES, scores).rows[0], [1, 1, 0])
    assert_array_equal(linker()(BOXES, SIZE, FEATURES, scores).rows[0], [0, 0, 1])


@pytest.mark.parametrize('method', ['viterbi', 'hungarian'])
def test_the_order_of_boxes_does_not_matter(method):
    rng = np.random.RandomState(1)
    boxes = [rng.rand(5, 2) * 80 for _ in range(6)]
    boxes = [np.concatenate([b, b + 20], 1).astype(np.float32) for b in boxes]
    features = [rng.randn(5, 8).astype(np.float32) for _ in range(6)]
    orders = [rng.permutation(5) for _ in range(6)]
    link = linker(method=method, min_link=0.05)
    found = link(boxes, SIZE, features)
    moved = link(
        [b[o] for b, o in zip(boxes, orders)], SIZE, [f[o] for f, o in zip(features, orders)]
    )
    assert_allclose(moved.scores, found.scores)
    assert_array_equal(moved.bboxes, found.bboxes)


def test_frames_without_detection_are_passed_over():
    boxes = [BOXES[0], np.zeros((0, 4), np.float32), BOXES[1], BOXES[2]]
    features = [FEATURES[0], np.zeros((0, 2), np.float32), FEATURES[1], FEATURES[2]]
    tubes = linker()(boxes, SIZE, features)
    assert_array_equal(tubes.rows[0], [0, -1, 0, 1])
    assert_array_equal(tubes.bboxes[0, 1], [2, 0, 12, 10])  # halfway
    assert tubes.scores[0] * 2 == pytest.approx(1.323377, abs=1e-6)


def test_one_frame_and_none():
    assert_array_equal(linker()(BOXES[:1], SIZE).rows, [[0], [1]])
    nothing = np.zeros((0, 4), np.float32)
    tubes = linker()([nothing, nothing], SIZE)
    assert_array_equal(tubes.bboxes, [[[0, 0, 40, 20]] * 2])
    assert_array_equal(tubes.rows, [[-1, -1]])
    tubes = linker()([nothing, BOXES[0], nothing], SIZE)
    assert_array_equal(tubes.bboxes[1], BOXES[0][[1, 1, 1]])
    with pytest.raises(ValueError, match='no frame'):
        linker()([], SIZE)


def test_hungarian_tubes_are_born_and_die():
    far = np.array([[30, 0, 40, 10]], np.float32)
    boxes = [BOXES[0][:1], np.concatenate([BOXES[0][:1] + 1, far]), far + 1, far + 2]
    tubes = linker(method='hungarian', min_length=2)(boxes, SIZE)
    assert_array_equal(tubes.rows, [[-1, 1, 0, 0], [0, 0, -1, -1]])
    assert_array_equal(tubes.bboxes[0, 0], far[0])  # the nearest beyond its ends
    only_long = linker(method='hungarian')(boxes, SIZE)
    assert_array_equal(only_long.rows, [[-1, 1, 0, 0]])


def test_hungarian_bridges_short_gaps_only():
    box, other = BOXES[0][:1], np.array([[30, 0, 40, 10]], np.float32)
    for gap, tubes in ((2, 1), (3, 2)):
        boxes = [box, box, *[other] * gap, box, box]
        found = linker(method='hungarian', min_length=2)(boxes, SIZE)
        first = [r for r in found.rows if r[0] >= 0]
        assert len(found) == tubes + 1 and (first[0][-1] >= 0) == (gap == 2)


def drifting(rng, frames, most):
    """0 to ``most`` boxes per frame that move little, in random order, and their features."""
    base, vectors = rng.rand(most, 2) * 60, rng.randn(most, 6)
    bboxes, features = [], []
    for _ in range(frames):
        which = rng.permutation(most)[: rng.randint(most + 1)]
        corner = base[which] + rng.rand(len(which), 2) * 8
        bboxes.append(np.concatenate([corner, corner + 20], 1).astype(np.float32))
        features.append((vectors[which] + rng.randn(len(which), 6)).astype(np.float32))
    return bboxes, features


def hungarian_by_hand(link, bboxes, features):
    """Rows per tube, in the order of birth: a list of rows per tube, searched for its last one."""
    units = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in features]
    tubes = []
    for frame, found in enumerate(bboxes):
        last = [max(f for f in range(frame) if tube[f] >= 0) for tube in tubes]
        live = [k for k, f in enumerate(last) if frame - f <= link.max_gap + 1]
        taken = set()
        if live and len(found):
            ends = [(last[k], tubes[k][last[k]]) for k in live]
            fit = link.link_scores(
                *(np.stack([bboxes[f][row] for f, row in ends]), found),
                *(np.stack([units[f][row] for f, row in ends]), units[frame]),
            )
            for i, j in zip(*linear_sum_assignment(-fit)):
                if fit[i, j] >= link.min_link:
                    tubes[live[i]][frame] = j
                    taken.add(j)
        for j in set(range(len(found))) - taken:
            tubes.append([-1] * len(bboxes))
            tubes[-1][frame] = j
    return tubes


def test_hungarian_equals_a_search_by_hand():
    """The linker keeps the last frame of a tube instead of looking for it in all of them."""
    rng = np.random.RandomState(3)
    link = linker(method='hungarian', min_length=1, max_tubes=1000)
    gaps = 0
    for _ in range(20):
        bboxes, features = drifting(rng, 12, 5)
        found = link(bboxes, SIZE, features).rows
        expected = np.array(hungarian_by_hand(link, bboxes, features))
        assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
        gaps += ((found[:, :-2] >= 0) & (found[:, 1:-1] < 0) & (found[:, 2:] >= 0)).sum()
    assert gaps > 20


def test_a_poor_frame_ends_the_search_or_is_passed_over():
    """Spec 1.4 stops when a frame is empty, so one detection in one frame allows one tube."""
    boxes = [BOXES[0], BOXES[1], BOXES[1][:1], BOXES[2]]
    features = [FEATURES[0], FEATURES[1], FEATURES[1][:1], FEATURES[2]]
    stop = linker()(boxes, SIZE, features)
    assert_array_equal(stop.rows, [[0, 0, 0, 1]])
    skip = linker(exhausted='skip')(boxes, SIZE, features)
    assert_array_equal(skip.rows, [[0, 0, 0, 1], [1, 1, -1, 0]])
    assert_array_equal(skip.bboxes[0], stop.bboxes[0])
    assert skip.scores[1] * 2 == pytest.approx(1.158333, abs=1e-6)  # as without that frame
    assert_array_equal(skip.bboxes[1, 2], [13, 0, 23, 10])  # halfway from 14 to 12
    few = linker(exhausted='skip', min_length=4)(boxes, SIZE, features)
    assert_array_equal(few.rows, stop.rows)
    assert len(linker(exhausted='skip', max_tubes=1)(boxes, SIZE, features)) == 1


def test_with_as_many_boxes_everywhere_nothing_is_passed_over():
    rng = np.random.RandomState(4)
    bboxes = [rng.rand(4, 2) * 60 for _ in range(6)]
    bboxes = [np.concatenate([b, b + 20], 1).astype(np.float32) for b in bboxes]
    stop, skip = (linker(exhausted=e)(bboxes, SIZE) for e in ('stop', 'skip'))
    assert_array_equal(stop.rows, skip.rows)
    assert_array_equal(stop.scores, skip.scores)


def test_passing_over_uses_every_box_once():
    rng = np.random.RandomState(5)
    for _ in range(20):
        bboxes, features = drifting(rng, 8, 6)
        scores = [rng.rand(len(b)) for b in bboxes]
        if not any(map(len, bboxes)):
            continue
        link = linker(exhausted='skip', min_length=1, score_weight=0.5, max_tubes=100)
        rows = link(bboxes, SIZE, features, scores).rows
        for frame, boxes in enumerate(bboxes):
            assert sorted(rows[rows[:, frame] >= 0, frame]) == list(range(len(boxes)))


def test_settings_are_checked():
    with pytest.raises(ValueError, match='method'):
        linker(method='greedy')
    with pytest.raises(ValueError, match='alpha'):
        linker(alpha=1.5)
    with pytest.raises(ValueError, match='exhausted'):
        linker(exhausted='wait')
