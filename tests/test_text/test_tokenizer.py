import pytest
from transformers import BertTokenizer as HuggingFaceTokenizer

from mmvg.text import build_tokenizer

VOCAB = [
    '[PAD]',
    '[UNK]',
    '[CLS]',
    '[SEP]',
    '[MASK]',
    'man',
    'on',
    'the',
    'left',
    '##most',
    'cafe',
    ',',
    '##s',
    '|',
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'vocab.txt').write_text('\n'.join(VOCAB) + '\n', encoding='utf-8')
    return tmp_path


@pytest.mark.parametrize(
    'text',
    ['man on the left', 'Leftmost man, Café', 'mans ||| left', '左の人', 'man\u00a0on\tthe  left'],
)
def test_pieces_equal_the_reference_tokenizer(folder, text):
    reference = HuggingFaceTokenizer(str(folder / 'vocab.txt'), do_lower_case=True)
    ids = reference.convert_tokens_to_ids(reference.tokenize(text))
    tokenizer = build_tokenizer(str(folder))
    assert tokenizer.pieces(text) == ids
    assert tokenizer.encode(text) == [2, *ids, 3]


def test_truncation_keeps_the_separator(folder):
    tokenizer = build_tokenizer(str(folder / 'vocab.txt'))
    ids = tokenizer.encode('man ' * 200, max_len=20)
    assert ids == [2] + [5] * 18 + [3]
    assert tokenizer.num_pieces('man ' * 200) == 200


def test_missing_sources_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no vocab.txt'):
        build_tokenizer(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='build_vocab.py'):
        build_tokenizer(str(tmp_path / 'absent' / 'vocab.txt'))
    with pytest.raises(FileNotFoundError, match='hub'):
        build_tokenizer('no-such-org/no-such-bert')
    with pytest.raises(ValueError, match='builtin:shapes'):
        build_tokenizer('builtin:klingon')
    (tmp_path / 'vocab.txt').write_text('man\nleft\n', encoding='utf-8')
    with pytest.raises(ValueError, match=r'\[PAD\]'):
        build_tokenizer(str(tmp_path / 'vocab.txt'))
