"""Captions of users: marked phrases, phrases found by rule, punctuation, relations."""

import pytest

from mmvg.apis.caption_reader import CaptionReader


@pytest.fixture(scope='module')
def read():
    return CaptionReader()


def test_phrases_are_found_by_rule(read):
    found = read('A man in a red shirt, standing next to his dog.')
    assert found['caption'] == 'A man in a red shirt , standing next to his dog .'
    assert found['queries'] == ['A man', 'a red shirt', 'his dog']
    assert found['query_spans'] == [(0, 2), (3, 6), (10, 12)]
    assert found['relations'] == [(0, 1, 'in', []), (0, 2, 'stand next to', [])]


def test_marked_phrases_are_taken_and_no_others(read):
    found = read('A man in [a red shirt] , with [shirt] .')
    assert found['caption'] == 'A man in a red shirt , with shirt .'
    assert found['queries'] == ['a red shirt', 'shirt'] and found['query_spans'] == [(3, 6), (8, 9)]
    assert read('[man on the left]')['queries'] == ['man on the left']
    assert read('x[a b]y')['caption'] == 'x a b y'


def test_equal_phrases_keep_their_places(read):
    found = read('[a circle] left of [a circle]')
    assert found['query_spans'] == [(0, 2), (4, 6)]
    assert found['relations'] == [(0, 1, 'to the left of', [])]


def test_pronouns_are_no_phrases(read):
    assert read('two dogs play ; people watch them')['queries'][-1] == 'people'


def test_a_text_may_be_one_phrase():
    read = CaptionReader(find_phrases=False)
    found = read('man on the left')
    assert found['queries'] == ['man on the left'] and found['relations'] == []
    assert read('[man] on the left')['queries'] == ['man']


@pytest.mark.parametrize(
    ('text', 'caption'),
    [
        ("a man's hat", "a man 's hat"),
        ('the "best" dog (left)', 'the " best " dog ( left )'),
        ('a half-eaten apple, 3.5 or 1,000 m', 'a half-eaten apple , 3.5 or 1,000 m'),
        ('Wait... a dog?!', 'Wait ... a dog ?!'),
        ('  a\n dog\t', 'a dog'),
    ],
)
def test_punctuation_is_set_apart_as_in_data_sets(text, caption):
    assert CaptionReader(find_phrases=False)(text)['caption'] == caption


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a [man', r"'a \[man': a \[ has no \] behind it"),
        ('a man]', r'every \[ needs a \]'),
        ('[a [man]]', 'phrases within phrases cannot be marked'),
        ('a [ ] man', 'with words in between'),
        ('and , or', "no phrase was found in 'and , or'; mark those"),
        ('  ', 'has no word'),
    ],
)
def test_texts_without_phrases_are_refused(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)
