"""Sentences as the model takes them (spec vcma 1.3)."""

import json

import pytest
from mmdet.registry import TRANSFORMS


def parse(*queries, predicates=('hold', 'chase')):
    transform = TRANSFORMS.build(dict(type='ParseQueries', predicates=list(predicates)))
    return transform(dict(queries=list(queries)))['parsed']


def test_entities_relations_and_target():
    statement, subject, target = parse(
        'a red circle chases a box.', 'what chases a box?', 'what does a red circle chase?'
    )
    assert statement['entities'] == ['red circle', 'box'] and statement['target'] == 0
    assert statement['relations'] == [(0, 2, 1)]  # 0 is the unknown predicate, 1 "hold"
    asked = subject['entities'][subject['target']]
    assert asked == 'object' and subject['relations'] == [(subject['target'], 2, 1)]
    assert target['entities'][target['target']] == 'object'
    ((by, predicate, whom),) = target['relations']
    assert (target['entities'][by], predicate, whom) == ('red circle', 2, target['target'])


def test_what_is_not_known_or_not_there():
    unknown, alone, nothing = parse('a dog licks a cat.', 'a dog sleeps.', 'hm hm')
    assert unknown['relations'] == [(0, 0, 1)]
    assert [r[2] for r in alone['relations']] in ([-1], [])  # no object
    assert nothing['entities'] and nothing['relations'] == []
    assert 0 <= nothing['target'] < len(nothing['entities'])


def test_equal_meanings():
    a, b, c, d = parse('A dog holds a ball.', 'a dog holds a ball', 'a ball holds a dog', 'a dog')
    assert a['meaning'] == b['meaning']
    assert len({x['meaning'] for x in (a, b, c, d)}) == 3
    who, what = parse('who holds a ball?', 'what does a person hold?')
    assert who['meaning'] != what['meaning']  # the same entities, another target
    wet, dry = parse('a dog is wet.', 'a dog is dry.')
    assert wet['entities'] == dry['entities'] and wet['meaning'] != dry['meaning']


def test_predicates_that_are_not_listed_differ_in_meaning():
    lick, bite, again = parse('a dog licks a cat', 'a dog bites a cat', 'a dog is licking a cat')
    assert lick['relations'] == bite['relations'] == [(0, 0, 1)]
    assert lick['meaning'] != bite['meaning'] and lick['meaning'] == again['meaning']


def test_later_steps_may_change_what_they_get():
    transform = TRANSFORMS.build(dict(type='ParseQueries', predicates=['hold']))
    expected = parse('a dog holds a ball', predicates=['hold'])
    first = transform(dict(queries=['a dog holds a ball']))['parsed']
    first[0]['entities'].clear()
    assert transform(dict(queries=['a dog holds a ball']))['parsed'] == expected


def test_predicates_of_a_file(tmp_path):
    path = tmp_path / 'predicates.json'
    with pytest.raises(FileNotFoundError, match='build_predicates'):
        parse_file(path)
    path.write_text(json.dumps(dict(predicates=['<unk>', 'lick'], counts=[0, 3])))
    assert parse_file(path)['relations'] == [(0, 1, 1)]


def parse_file(path):
    transform = TRANSFORMS.build(dict(type='ParseQueries', predicates=str(path)))
    return transform(dict(queries=['a dog licks a cat.']))['parsed'][0]
