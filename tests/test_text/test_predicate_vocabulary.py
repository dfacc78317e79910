"""Predicate ids and frequencies, and their file."""

import json

import numpy as np
import pytest

from mmvg.text import PredicateVocabulary, QueryParser

SENTENCES = [
    *('a man holds a cup', 'a child holds a toy', 'who leans on a sofa?', 'a dog runs'),
    *(
        'a dog is above a cat',
        'a cat is above a box',
        'a cat holds a rat and slips away from a dog',
    ),
]


@pytest.fixture
def vocabulary():
    return PredicateVocabulary.build(map(QueryParser(), SENTENCES), size=3)


def test_the_most_frequent_have_ids_and_the_rest_is_unknown(vocabulary):
    assert vocabulary.predicates == ['<unk>', 'hold', 'above', 'lean_on']
    assert vocabulary.counts == [2, 3, 2, 1]  # run and slip away from are unknown
    assert len(vocabulary) == 4
    assert [vocabulary.encode(p) for p in ('hold', 'lean_on', 'run')] == [1, 3, 0]
    np.testing.assert_allclose(vocabulary.prior(), np.array([3, 4, 3, 2]) / 12)
    queries = list(map(QueryParser(), SENTENCES))
    assert PredicateVocabulary.build(queries, min_count=2).predicates == ['<unk>', 'hold', 'above']


def test_an_unknown_predicate_falls_back_on_its_parts():
    vocabulary = PredicateVocabulary(['<unk>', 'away_from', 'hold'], [0, 0, 0])
    names = ['slip_away_from', 'hold_hand_of', 'away_from', 'in_front_of']
    assert [vocabulary.encode(name) for name in names] == [1, 2, 1, 0]
    assert vocabulary.prior().tolist() == [1 / 3] * 3


def test_file(vocabulary, tmp_path):
    path = tmp_path / 'predicates.json'
    path.write_text(vocabulary.dumps())
    loaded = PredicateVocabulary.load(str(path))
    assert (loaded.predicates, loaded.counts) == (vocabulary.predicates, vocabulary.counts)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'does not exist'),
        ('{"predicates": [', 'is no file of predicates'),
        ('["<unk>"]', 'is no file of predicates'),
        (dict(predicates=['<unk>']), "is no file of predicates .'counts'"),
        (dict(predicates=['<unk>', 3], counts=[0, 1]), 'a predicate is not a word'),
        (dict(predicates=['<unk>', 'hold'], counts=[1]), '1 counts for 2 distinct predicates of 2'),
        (dict(predicates=['<unk>', 'a', 'a'], counts=[1, 1, 1]), '3 counts for 2 distinct'),
        (dict(predicates=['hold'], counts=[1]), "the first predicate must be '<unk>'"),
        (dict(predicates=['<unk>'], counts=[-1]), 'counts must be numbers from 0 on'),
        (dict(predicates=['<unk>'], counts=[0.5]), 'counts must be numbers from 0 on'),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / 'predicates.json'
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises((FileNotFoundError, ValueError), match=message) as caught:
        PredicateVocabulary.load(str(path))
    assert str(path) in str(caught.value)
    assert 'make it with tools/misc/build_predicates.py' in str(caught.value)
