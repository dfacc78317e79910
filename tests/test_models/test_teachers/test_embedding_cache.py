import multiprocessing
import sqlite3

import pytest
import torch
from mmengine.logging import MMLogger

from mmvg.models.teachers import EmbeddingCache


class Encoder:
    """Embedding of a number as text; counts how often each is asked for."""

    def __init__(self, width=8):
        self.width = width
        self.asked = []

    def __call__(self, keys):
        def encode(picked):
            self.asked += [keys[i] for i in picked]
            return expected([keys[i] for i in picked], self.width)

        return encode

    def fetch(self, cache, keys):
        rows = cache.fetch(keys, self(keys))
        assert torch.equal(rows, expected(keys, self.width))
        return rows


def expected(keys, width=8):
    return torch.stack([torch.linspace(0.1, int(key) + 0.7, width) for key in keys])


@pytest.fixture
def warnings(monkeypatch):
    messages = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', messages.append)
    return messages


def test_each_key_is_computed_once_and_order_is_kept():
    cache, encoder = EmbeddingCache(), Encoder()
    encoder.fetch(cache, ['3', '1', '3', '2'])
    assert encoder.asked == ['3', '1', '2']
    rows = encoder.fetch(cache, ['2', '4', '1', '1'])
    assert encoder.asked == ['3', '1', '2', '4']
    assert rows.dtype == torch.float32 and len(cache) == 4


def test_half_precision_on_a_graph_becomes_plain_float():
    rows = EmbeddingCache().fetch(
        ['a'], lambda picked: torch.ones(1, 3, dtype=torch.bfloat16, requires_grad=True) * 2
    )
    assert not rows.requires_grad and torch.equal(rows, torch.full((1, 3), 2.0))


def test_memory_is_bounded_and_the_oldest_goes_first():
    encoder = Encoder(width=256)
    cache = EmbeddingCache(max_mb=0.01)  # seven rows of 1 KiB and what comes with them
    for key in '1234567':
        encoder.fetch(cache, [key])
    assert len(cache) == 7 and cache.num_bytes <= cache.max_bytes
    encoder.fetch(cache, ['1'])  # now 2 is the oldest
    encoder.fetch(cache, ['8'])
    encoder.fetch(cache, ['1', '3', '8'])
    assert encoder.asked == list('12345678')
    encoder.fetch(cache, ['2'])
    assert encoder.asked[-1] == '2' and len(cache) == 7
    encoder.fetch(cache, [str(i) for i in range(50)])  # a batch larger than the memory
    assert cache.num_bytes <= cache.max_bytes
    while cache._rows:
        cache.max_bytes = 0
        cache._remember({})
    assert cache.num_bytes == 0


def test_no_memory_at_all():
    cache, encoder = EmbeddingCache(max_mb=0), Encoder()
    encoder.fetch(cache, ['1', '1'])
    encoder.fetch(cache, ['1'])
    assert encoder.asked == ['1', '1'] and len(cache) == 0
    with pytest.raises(ValueError, match='max_mb'):
        EmbeddingCache(max_mb=-1)


@pytest.mark.parametrize('max_mb', [0, 1])
def test_file_serves_another_run_of_the_same_fingerprint(tmp_path, max_mb):
    folder = str(tmp_path / 'new' / 'folder')
    keys = [str(i) for i in range(1200)]  # more than one statement may ask for
    Encoder().fetch(EmbeddingCache(max_mb, folder, 'one'), keys)
    again = Encoder()
    again.fetch(EmbeddingCache(max_mb, folder, 'one'), [*keys, '2000'])
    assert again.asked == ['2000']
    other = Encoder()
    other.fetch(EmbeddingCache(max_mb, folder, 'two'), keys[:5])
    assert other.asked == keys[:5]


def _fill(folder, start, begin):
    cache = EmbeddingCache(0, folder, 'shared')
    begin.wait()
    for first in range(start, start + 60, 2):
        Encoder().fetch(cache, [str(first), str(first + 1)])


def test_processes_write_at_the_same_time(tmp_path):
    context = multiprocessing.get_context('fork')
    begin = context.Barrier(3)
    ranges = (0, 30, 60)  # they overlap
    processes = [
        context.Process(target=_fill, args=(str(tmp_path), start, begin)) for start in ranges
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    encoder = Encoder()
    encoder.fetch(EmbeddingCache(0, str(tmp_path), 'shared'), [str(i) for i in range(120)])
    assert encoder.asked == []
    assert [path.name for path in tmp_path.iterdir()] == ['shared.sqlite']


@pytest.mark.parametrize(
    'damage',
    [
        "data = X'00000000' || substr(data, 5)",
        'data = substr(data, 1, 12)',
        'data = NULL',
        'checksum = checksum + 1',
        "data = (SELECT data FROM embeddings WHERE key = '5')",
    ],
)
def test_damaged_rows_are_computed_again_with_one_warning(tmp_path, warnings, damage):
    keys = ['3', '4', '5']
    Encoder().fetch(EmbeddingCache(0, str(tmp_path)), keys)
    with sqlite3.connect(tmp_path / 'embeddings.sqlite') as db:
        db.execute(f"UPDATE embeddings SET {damage} WHERE key IN ('3', '4')")
    db.close()
    cache, encoder = EmbeddingCache(0, str(tmp_path)), Encoder()
    encoder.fetch(cache, keys)
    assert encoder.asked == ['3', '4']
    encoder.fetch(cache, keys)
    assert encoder.asked == ['3', '4']
    assert len(warnings) == 1 and 'damaged' in warnings[0] and 'embeddings.sqlite' in warnings[0]


@pytest.mark.parametrize('damage', ['text', 'pages', 'header'])
def test_damaged_file_is_set_aside_with_one_warning(tmp_path, warnings, damage):
    keys = [str(i) for i in range(300)]
    Encoder(64).fetch(EmbeddingCache(0, str(tmp_path)), keys)
    path = tmp_path / 'embeddings.sqlite'
    content = bytearray(path.read_bytes())
    if damage == 'text':
        content = b'no data base'
    elif damage == 'header':
        content[:100] = bytes(100)
    else:
        content[4096:] = b'\xff' * (len(content) - 4096)
    path.write_bytes(content)
    cache, encoder = EmbeddingCache(0, str(tmp_path)), Encoder(64)
    encoder.fetch(cache, keys)
    assert encoder.asked == keys
    encoder.fetch(cache, keys)
    assert encoder.asked == keys
    assert len(warnings) == 1 and 'damaged' in warnings[0]
    assert (tmp_path / 'embeddings.sqlite.damaged').read_bytes() == content


def test_damage_during_a_run(tmp_path, warnings):
    cache, encoder = EmbeddingCache(0, str(tmp_path)), Encoder()
    encoder.fetch(cache, ['1'])
    (tmp_path / 'embeddings.sqlite').write_bytes(b'x' * 5000)
    encoder.fetch(cache, ['1'])
    encoder.fetch(cache, ['1'])
    assert encoder.asked == ['1', '1'] and len(warnings) == 1


@pytest.mark.parametrize('folder', ['/proc/nope', __file__])
def test_a_folder_that_cannot_be_made_is_left_out_with_one_warning(warnings, folder):
    cache, encoder = EmbeddingCache(1, folder), Encoder()
    for key in '1212':
        encoder.fetch(cache, [key])
    assert encoder.asked == ['1', '2']
    assert len(warnings) == 1 and 'memory only' in warnings[0] and folder in warnings[0]


def test_damage_in_a_read_only_folder(tmp_path, warnings, monkeypatch):
    def refuse(*args):
        raise PermissionError('read-only')

    (tmp_path / 'embeddings.sqlite').write_bytes(b'x' * 5000)
    monkeypatch.setattr('os.replace', refuse)
    cache, encoder = EmbeddingCache(1, str(tmp_path)), Encoder()
    for key in '1212':
        encoder.fetch(cache, [key])
    assert encoder.asked == ['1', '2']
    assert len(warnings) == 1 and 'memory only' in warnings[0]


def test_a_disk_that_fails_is_left_out_with_one_warning(tmp_path, warnings):
    (tmp_path / 'embeddings.sqlite').mkdir()
    cache, encoder = EmbeddingCache(1, str(tmp_path)), Encoder()
    for key in '1212':
        encoder.fetch(cache, [key])
    assert encoder.asked == ['1', '2']
    assert len(warnings) == 1 and 'memory only' in warnings[0]
