import random

import numpy as np
import pytest

from mmvg.datasets import ShapesGroundingDataset
from mmvg.datasets.shapes import (
    EXPRESSION_TYPES,
    VOCABULARY,
    Scene,
    Shape,
    refer_to,
    render_scene,
    sample_scene,
)


def test_deterministic_and_different_between_splits_and_seeds():
    def infos(**kwargs):
        dataset = ShapesGroundingDataset(num_scenes=5, **kwargs)
        return [dataset.get_data_info(i) for i in range(5)]

    for one, again in zip(infos(), infos()):
        assert one['queries'] == again['queries'] and np.array_equal(one['img'], again['img'])
    for other in (infos(split='val'), infos(seed=1)):
        assert all(not np.array_equal(a['img'], b['img']) for a, b in zip(infos(), other))


def test_boxes_do_not_overlap_and_hold_the_drawn_shape():
    for seed in range(50):
        scene = sample_scene(random.Random(seed))
        for i, shape in enumerate(scene.shapes):
            x1, y1, x2, y2 = shape.bbox
            assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64
            for other in scene.shapes[:i]:
                ox1, oy1, ox2, oy2 = other.bbox
                assert x1 > ox2 or ox1 > x2 or y1 > oy2 or oy1 > y2


@pytest.mark.parametrize('kind', ['circle', 'square', 'triangle'])
@pytest.mark.parametrize('cx, radius', [(30.0, 10.0), (31.5, 9.5)])
def test_the_box_is_tight(kind, cx, radius):
    shape = Shape(kind, 'yellow', 'plain', 'small', cx, cx, radius)
    difference = render_scene(Scene(64, (shape,), 0)).astype(int) - render_scene(Scene(64, (), 0))
    ys, xs = np.nonzero(np.abs(difference).sum(-1) > 60)
    drawn = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert np.abs(np.array(drawn) - shape.bbox).max() <= 1.5


def scene_of(*shapes):
    return Scene(64, tuple(Shape(*s) for s in shapes), 0)


RED_CIRCLE_LEFT = ('circle', 'red', 'plain', 'small', 10.0, 32.0, 6.0)
RED_CIRCLE_RIGHT = ('circle', 'red', 'plain', 'small', 50.0, 32.0, 6.0)
BLUE_SQUARE = ('square', 'blue', 'plain', 'small', 30.0, 32.0, 6.0)


def test_identical_shapes_are_told_apart_by_place_only():
    scene = scene_of(RED_CIRCLE_LEFT, RED_CIRCLE_RIGHT, BLUE_SQUARE)
    texts = {
        kind: {refer_to(random.Random(i), scene, scene.shapes[0], [kind]) for i in range(60)}
        for kind in EXPRESSION_TYPES
    }
    assert texts['attribute'] == {None}
    assert ('the circle left of the square', 'relation') in texts['relation']
    assert ('the leftmost circle', 'location') in texts['location']
    assert all('right' not in text for text, _ in texts['location'])
    middle = {
        refer_to(random.Random(i), scene, scene.shapes[2], ['ordering'])[0] for i in range(60)
    }
    assert 'the second shape from the left' in middle
    assert all(t.startswith('the second') and t.endswith(('left', 'right')) for t in middle)


def test_no_expression_is_given_where_places_are_too_close_to_call():
    scene = scene_of(RED_CIRCLE_LEFT, ('circle', 'red', 'plain', 'small', 12.0, 50.0, 6.0))
    texts = {refer_to(random.Random(i), scene, scene.shapes[0], ['location'])[0] for i in range(60)}
    assert texts and all('top' in text for text in texts)


def test_every_word_is_in_the_vocabulary_and_fits_the_recipe():
    dataset = ShapesGroundingDataset(num_scenes=300)
    queries = [q for i in range(300) for q in dataset.get_data_info(i)['queries']]
    words = {w for q in queries for w in q.split()}
    assert words <= set(VOCABULARY)
    assert max(len(q.split()) for q in queries) <= 12


def test_all_types_occur_and_k_is_as_asked():
    dataset = ShapesGroundingDataset(num_scenes=200)
    infos = [dataset.get_data_info(i) for i in range(200)]
    assert {t for r in infos for t in r['query_types']} == set(EXPRESSION_TYPES)
    assert {len(r['queries']) for r in infos} == {2, 3, 4}
    two = ShapesGroundingDataset(num_scenes=20, queries_per_scene=2)
    assert all(len(two.get_data_info(i)['queries']) == 2 for i in range(20))


def test_blind_ceiling_has_the_closed_form():
    assert ShapesGroundingDataset(num_scenes=20, num_shapes=(4, 4)).blind_ceiling() == 0.25
    # K = n queries per scene: one of n is right, so scenes / queries.
    dataset = ShapesGroundingDataset(num_scenes=50)
    queries = sum(len(dataset.get_data_info(i)['queries']) for i in range(50))
    assert dataset.blind_ceiling() == pytest.approx(50 / queries)


def test_the_control_changes_the_text_only():
    plain, blind = (
        ShapesGroundingDataset(num_scenes=3, constant_query=q) for q in (None, 'the object')
    )
    for i in range(3):
        a, b = plain.get_data_info(i), blind.get_data_info(i)
        assert np.array_equal(a['img'], b['img']) and a['bboxes'] == b['bboxes']
        assert set(b['queries']) == {'the object'}


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match='unknown expression types'):
        ShapesGroundingDataset(types=['colour'])
    with pytest.raises(ValueError, match='no scene'):
        ShapesGroundingDataset(num_scenes=1, num_shapes=(1, 1), types=['relation'])
