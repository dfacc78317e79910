import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from mmvg.datasets.safe_pickle import load_refs, load_torch_index

ROWS = [('a.jpg', '1.pth', [1.5, 2, 3, 4], 'a café', [('r1', ['man'])])]


class Payload:
    """Unpickles to ``os.system``: would create a file if any loader ran it."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.system, (f'touch {self.target}',)


def save(content, path, zip_format):
    torch.save(content, path, _use_new_zipfile_serialization=zip_format)
    return str(path)


@pytest.mark.parametrize('protocol', range(5))
def test_refs_of_any_protocol(tmp_path, protocol):
    refs = [dict(ref_id=1, sentences=[dict(sent='é', tokens=['é'])], box=(1.5, None, True))]
    path = tmp_path / 'refs.p'
    path.write_bytes(pickle.dumps(refs, protocol))
    assert load_refs(str(path)) == refs


@pytest.mark.parametrize('stored, text', [(b'caf\xc3\xa9', 'café'), (b'caf\xe9', 'café')])
def test_byte_strings_of_python_2(tmp_path, stored, text):
    path = tmp_path / 'refs.p'
    path.write_bytes(b'\x80\x02]U' + bytes([len(stored)]) + stored + b'a.')  # SHORT_BINSTRING
    assert load_refs(str(path)) == [text]


@pytest.mark.parametrize('zip_format', [False, True])
def test_index_of_both_formats(tmp_path, zip_format):
    assert load_torch_index(save(ROWS, tmp_path / 'x.pth', zip_format)) == ROWS


@pytest.mark.parametrize('zip_format', [False, True])
def test_index_with_numpy_boxes(tmp_path, zip_format):
    box = np.array([1.5, 2, 3, 4], np.float32)
    rows = [('a.jpg', box, 'man'), ('b.jpg', [np.float32(0.5), 1, 2, 3], 'dog')]
    (_, first, _), (_, second, _) = load_torch_index(save(rows, tmp_path / 'x.pth', zip_format))
    np.testing.assert_array_equal(first, box)
    assert first.dtype == np.float32 and second == [0.5, 1, 2, 3]


def test_code_is_refused_and_does_not_run(tmp_path):
    target = tmp_path / 'ran'
    refs = tmp_path / 'refs.p'
    refs.write_bytes(pickle.dumps([Payload(target)], 2))
    with pytest.raises(ValueError, match=r'refs.p was not read.*\.system.*original source'):
        load_refs(str(refs))
    for zip_format in (False, True):
        path = save([Payload(target)], tmp_path / f'{zip_format}.pth', zip_format)
        with pytest.raises(ValueError, match=r'\.pth was not read.*\.system'):
            load_torch_index(path)
    header = tmp_path / 'header.pth'  # the payload in place of the magic number
    header.write_bytes(pickle.dumps(Payload(target), 2))
    with pytest.raises(ValueError, match='system'):
        load_torch_index(str(header))
    assert not target.exists()
    pickle.loads(refs.read_bytes())
    assert target.exists()  # the payload works where nothing stops it


@pytest.mark.parametrize(
    'opcodes, symbol',
    [
        (b'cbuiltins\neval\n(S"1"\ntR.', 'builtins.eval'),
        (b'(S"true"\nios\nsystem\n.', 'os.system'),  # INST
        (b'cnumpy\nload\n(S"x"\ntR.', 'numpy.load'),
        (b'cnumpy\nndarray.tofile\n.', 'numpy.ndarray.tofile'),
        (b'c_codecs\ndecode\n.', '_codecs.decode'),
        (b'\x80\x04\x8c\x02os\x8c\x06system\x93.', 'os.system'),  # STACK_GLOBAL
    ],
)
def test_other_symbols_are_refused_by_both_readers(tmp_path, opcodes, symbol):
    refs, index = tmp_path / 'refs.p', tmp_path / 'x.pth'
    refs.write_bytes(opcodes)
    with zipfile.ZipFile(index, 'w') as archive:
        archive.writestr('archive/data.pkl', opcodes)
    for reader, path in ((load_refs, refs), (load_torch_index, index)):
        with pytest.raises(ValueError, match=symbol):
            reader(str(path))


def test_refs_take_no_numpy_and_index_takes_no_tensor(tmp_path):
    refs = tmp_path / 'refs.p'
    refs.write_bytes(pickle.dumps([np.zeros(2)], 2))
    with pytest.raises(ValueError, match='_reconstruct'):
        load_refs(str(refs))
    for zip_format in (False, True):
        path = save([torch.zeros(2)], tmp_path / 'x.pth', zip_format)
        with pytest.raises(ValueError, match='was not read'):
            load_torch_index(path)


def test_codec_is_latin1_only(tmp_path):
    path = tmp_path / 'x.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', b'c_codecs\nencode\n(S"a"\nS"rot13"\ntR.')
    with pytest.raises(ValueError, match='rot13'):
        load_torch_index(str(path))


@pytest.mark.parametrize(
    'content', [b'', b'no pickle', b'\x80\x02]q', b'{"images": []}', b'\x80\x02}.' * 4]
)
def test_files_that_are_something_else(tmp_path, content):
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='x.pth is .*not a TransVG index file'):
        load_torch_index(str(path))


def test_other_archive_and_cut_off_file(tmp_path):
    path = tmp_path / 'x.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('readme.txt', 'hello')
    with pytest.raises(ValueError, match='zip archive but not'):
        load_torch_index(str(path))
    buffer = io.BytesIO()
    torch.save(ROWS, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue()[:-60])
    with pytest.raises(ValueError, match='damaged'):
        load_torch_index(str(path))


def test_real_index_files(samples):
    for folder, name, count in (
        ('refcoco', 'unc_testA', 5657),
        ('referitgame', 'referit_val', 5842),
    ):
        path = samples / folder / 'transvg_splits' / 'original_pth' / f'{name}.pth'
        assert len(load_torch_index(str(path))) == count
    path = samples / 'flickr30k_entities' / 'transvg_splits' / 'original_pth' / 'flickr_test.pth'
    image, box, phrase = load_torch_index(str(path))[0]  # boxes are numpy arrays of numpy 1
    assert image == '1011572216.jpg' and box.shape == (4,) and isinstance(phrase, str)
