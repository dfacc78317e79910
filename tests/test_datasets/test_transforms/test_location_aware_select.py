import random

import pytest
from mmdet.registry import TRANSFORMS

from mmvg.datasets.transforms import LocationAwareSelect


def mark(name):
    return lambda results: {**results, 'went': name}


def select(query, match='substring', prob=1.0):
    transform = LocationAwareSelect([mark('default')], [mark('cropped')], prob=prob, match=match)
    queries = [query] if isinstance(query, str) else query
    return transform(dict(queries=queries))['went']


# Substring matching is the released behaviour: words that merely contain a word of place count.
@pytest.mark.parametrize(
    'query, substring, word',
    [
        ('the man', 'cropped', 'cropped'),
        ('man on the left', 'default', 'default'),
        ('left-hand cup', 'default', 'default'),
        ('leftmost cup', 'default', 'default'),
        ('topright cup', 'default', 'default'),
        ('right?', 'default', 'default'),
        ('in the middle', 'default', 'default'),
        ('bottom', 'default', 'default'),
        ('laptop', 'default', 'cropped'),
        ('stop sign', 'default', 'cropped'),
        ('bright shirt', 'default', 'cropped'),
        ('upright bottle', 'default', 'cropped'),
        ('leftover pizza', 'default', 'cropped'),
    ],
)
def test_words_of_place(query, substring, word):
    assert select(query) == substring
    assert select(query, match='word') == word


def test_one_query_of_several_is_enough():
    assert select(['the man', 'the dog', 'dog on the left']) == 'default'


def test_probability_and_generator():
    random.seed(5)
    expected = ['cropped' if random.random() < 0.5 else 'default' for _ in range(20)]
    random.seed(5)
    assert [select('the man', prob=0.5) for _ in range(20)] == expected
    assert select('the man', prob=0.0) == 'default'


def test_builds_nested_lists_from_config(make_results):
    transform = TRANSFORMS.build(
        dict(
            type='LocationAwareSelect',
            default=[dict(type='ResizeSide', scales=320)],
            cropped=[
                dict(type='ResizeSide', scales=400, side='short'),
                dict(type='RandomSizeCrop'),
                dict(type='ResizeSide', scales=256),
            ],
            prob=1.0,
        )
    )
    assert max(transform(make_results(queries=['left man']))['img_shape']) == 320
    assert max(transform(make_results(queries=['man']))['img_shape']) == 256
    assert 'RandomSizeCrop' in repr(transform)


def test_gives_up_when_a_part_does():
    assert LocationAwareSelect([lambda r: None], [])(dict(queries=['left'])) is None


def test_refuses_unknown_match():
    with pytest.raises(ValueError, match='substring'):
        LocationAwareSelect([], [], match='regex')
