import pickle

import pytest
from mmengine.logging import MMLogger

from mmvg.datasets.transforms import TokenizeQueries


@pytest.fixture
def vocab(tmp_path):
    tokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'man', 'left', '##most', 'cafe']
    path = tmp_path / 'vocab.txt'
    path.write_text('\n'.join(tokens) + '\n', encoding='utf-8')
    return str(path)


def test_ids_of_every_query(vocab):
    out = TokenizeQueries(vocab)(dict(queries=['the man', ' leftmost  man ']))
    assert out['query_token_ids'] == [[2, 5, 6, 3], [2, 7, 8, 6, 3]]


def test_non_ascii_query(vocab):
    out = TokenizeQueries(vocab)(dict(queries=['the Café', 'человек 男']))
    assert out['query_token_ids'][0] == [2, 5, 9, 3]  # accents are stripped, as BERT uncased does
    assert set(out['query_token_ids'][1][1:-1]) == {1}


def test_long_queries_are_cut_counted_and_logged_once(vocab, monkeypatch):
    warnings = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', warnings.append)
    transform = TokenizeQueries(vocab, max_query_len=20)
    fits = transform(dict(queries=['man ' * 18]))['query_token_ids'][0]
    assert len(fits) == 20 and transform.num_cut == 0
    for _ in range(2):
        ids = transform(dict(queries=['man ' * 200], source='list.jsonl:3'))['query_token_ids'][0]
        assert ids == [2] + [6] * 18 + [3]
    assert transform.num_cut == 2
    assert len(warnings) == 1 and 'list.jsonl:3' in warnings[0] and '20 word pieces' in warnings[0]


@pytest.mark.parametrize('query', ['', '  \t', None, 7])
def test_empty_query_names_the_record(vocab, query):
    with pytest.raises(ValueError, match='list.jsonl:3, image a.jpg: query .* empty or not text'):
        TokenizeQueries(vocab)(
            dict(queries=['man', query], source='list.jsonl:3', img_path='a.jpg')
        )


def test_is_built_when_first_used_and_travels_to_workers(vocab):
    missing = TokenizeQueries('/nowhere/vocab.txt')
    with pytest.raises(FileNotFoundError):
        missing(dict(queries=['man']))
    copy = pickle.loads(pickle.dumps(TokenizeQueries(vocab)))
    assert copy(dict(queries=['man']))['query_token_ids'] == [[2, 6, 3]]


def test_refuses_length_without_room_for_text(vocab):
    with pytest.raises(ValueError, match='3 or more'):
        TokenizeQueries(vocab, max_query_len=2)
