import json

import pytest

from mmvg.datasets.transforms import EncodePhrases

WORDS = ['<unk>', 'a', 'man', 'rides', 'the', 'red', 'bike']


def encode(keep='all', words=WORDS, **record):
    transform = EncodePhrases(words, ['bike', 'man', 'a', 'red', '<unk>'], ['bike', 'man'], keep)
    return transform(dict(source='record 3', **record))


def test_ids_of_caption_and_phrases():
    found = encode(
        caption='A man rides the red bike .',
        query_spans=[(0, 2), (3, 6)],
        queries=['a man', 'bike'],
    )
    assert found['caption_ids'] == [2, 3, 4, 5, 6, 7, 1]
    assert found['phrase_ids'] == [[2, 3], [5, 6, 7]]  # as in the caption, not as the queries
    assert found['target_ids'] == [[3, 2], [5, 4, 1]]
    assert found['word_ids'] == [[-1, 1], [-1, -1, 0]]


def test_queries_without_a_caption_make_one():
    found = encode(queries=['red  bike', 'a man'])
    assert found['query_spans'] == [(0, 2), (2, 4)]
    assert found['caption_ids'] == [6, 7, 2, 3]
    assert found['phrase_ids'] == [[6, 7], [2, 3]]


def test_only_the_head_is_compared_with_categories():
    found = encode('head', queries=['man bike'])
    assert found['word_ids'] == [[-1, 0]]


def test_unknown_words_and_files(tmp_path):
    with pytest.raises(ValueError, match="record 3: vocabulary has neither 'dog'.*nor '<unk>'"):
        encode(words=WORDS[1:], queries=['dog'])
    with pytest.raises(FileNotFoundError, match='build_reir_text.py'):
        EncodePhrases(str(tmp_path / 'none.json'), WORDS, WORDS)
    (tmp_path / 'words.json').write_text(json.dumps(WORDS))
    assert '8 caption ids' in repr(EncodePhrases(str(tmp_path / 'words.json'), WORDS, WORDS))
