"""Vocabularies and word tables: ids, files, and errors that name the remedy (spec reir 1.2, 1.3)."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mmvg.models.layers import CategorySimilarity
from mmvg.text.vocabulary import UNKNOWN, Vocabulary, tokenize
from mmvg.text.word_table import WordTable, compose, load_word_table

TEXTS = ['A man , a Dog .', 'a dog']


def test_words_are_lower_case_and_punctuation_stays():
    assert tokenize(" A man 's bike-lane .") == ['a', 'man', "'s", 'bike-lane', '.']


def test_ids_count_from_1_by_frequency_then_alphabet():
    vocabulary = Vocabulary.build(TEXTS)
    assert vocabulary.words == [UNKNOWN, 'a', 'dog', ',', '.', 'man']
    assert len(vocabulary) == 7  # with id 0
    assert vocabulary.encode('A dog runs .') == [2, 3, 1, 5]
    assert vocabulary.decode([2, 3, 0, 5]) == ['a', 'dog']
    assert 'man' in vocabulary and 'runs' not in vocabulary
    assert Vocabulary.build(TEXTS, min_count=2).words == [UNKNOWN, 'a', 'dog']
    assert Vocabulary.build(['<unk> a']).words == [UNKNOWN, 'a']


def test_without_unk_an_unknown_word_is_an_error():
    vocabulary = Vocabulary.build(TEXTS, unknown=False)
    assert vocabulary.encode('a dog') == [1, 2]
    with pytest.raises(ValueError, match=r"neither 'cat' \(in 'a cat'\) nor '<unk>'.*--scope all"):
        vocabulary.encode('a cat')


def test_file(tmp_path):
    path = tmp_path / 'vocab.json'
    path.write_text(Vocabulary.build([*TEXTS, 'élan']).dumps(), encoding='utf-8')
    loaded = Vocabulary.load(str(path))
    assert loaded.words == json.loads(path.read_text(encoding='utf-8'))
    assert loaded.decode(loaded.encode('élan')) == ['élan']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'does not exist; make it with tools/misc/build_reir_text.py'),
        ('["a", ', 'is not JSON'),
        ('{"a": 1}', 'is not a JSON list of words'),
        ('["a", ""]', 'is not a JSON list of words'),
        ('["a", "b", "a"]', "'a' is listed 2 times"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / 'vocab.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises((FileNotFoundError, ValueError), match=message) as caught:
        Vocabulary.load(str(path))
    assert str(path) in str(caught.value)


# --- word tables


@pytest.fixture
def table():
    words = ['red', 'man', 'holding', 'a', 'dog']
    return WordTable(torch.randn(5, 4), torch.randn(2, 4), words, ['man', 'fire dog'], dict(v='x'))


def test_rows_of_words(table):
    assert table.encode('a red Man') == [3, 0, 1]
    assert table.encode('holding a cat') == [2, 3, -1]
    assert table.encode('a red man', 'content') == [-1, 0, 1]
    assert table.encode('a man holding a dog', 'content') == [-1, 1, 2, -1, 4]
    assert table.encode('a man in red', 'head') == [-1, 1, -1, -1]
    assert table.encode('') == table.encode('', 'head') == []
    with pytest.raises(ValueError, match="keep must be 'all'"):
        table.encode('a', 'nouns')


def test_table_file_and_similarity(table, tmp_path):
    path = tmp_path / 'table.safetensors'
    path.write_bytes(table.dumps())
    loaded = load_word_table(path)
    assert torch.equal(loaded.words, table.words)
    assert torch.equal(loaded.categories, table.categories)
    assert loaded.word_list == table.word_list and loaded.info == dict(v='x')
    assert loaded.category_list == ['man', 'fire dog']
    ids, labels = torch.tensor([[[0, 1, -1]]]), torch.tensor([[0, 1]])
    from_file = CategorySimilarity(table=str(path))
    assert torch.equal(
        from_file(ids, labels), CategorySimilarity(table.words, table.categories)(ids, labels)
    )
    assert not from_file.state_dict()  # made again from the file, not part of checkpoints


def test_similarity_needs_a_table_or_both_tensors(table, tmp_path):
    both = dict(words=table.words, categories=table.categories)
    for given in ({}, dict(words=table.words), dict(both, table='x.safetensors')):
        with pytest.raises(ValueError, match='words and categories, or a table'):
            CategorySimilarity(**given)
    with pytest.raises(FileNotFoundError, match='tools/misc/build_reir_text.py'):
        CategorySimilarity(table=str(tmp_path / 'none.safetensors'))


def test_bad_table_files(table, tmp_path):
    path = str(tmp_path / 'table.safetensors')
    content = table.dumps()
    for written, message in (
        (content[: len(content) // 2], 'not a word table'),
        (b'hello', 'not a word table'),
    ):
        (tmp_path / 'table.safetensors').write_bytes(written)
        with pytest.raises(ValueError, match=message):
            load_word_table(path)
    save_file({'words': torch.ones(2, 3)}, path)
    with pytest.raises(ValueError, match='it has no tensor categories'):
        load_word_table(path)
    save_file({'words': torch.ones(2, 3), 'categories': torch.ones(1, 3)}, path)
    with pytest.raises(ValueError, match='does not say which words'):
        load_word_table(path)
    lists = dict(words='["a"]', categories='["b"]')
    save_file({'words': torch.ones(2, 3), 'categories': torch.ones(1, 3)}, path, lists)
    with pytest.raises(ValueError, match='2 word and 1 category vectors for 1 words'):
        load_word_table(path)


def test_composed_vectors():
    vectors = [torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 4.0])]
    expected = dict(mean=[0, 2], first=[1, 0], max=[1, 4])
    assert {how: compose(vectors, how).tolist() for how in expected} == expected
    with pytest.raises(ValueError, match='label_compose'):
        compose(vectors, 'sum')
