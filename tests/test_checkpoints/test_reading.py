"""Reading checkpoint files without running code from them."""

import os
import pickle

import pytest
import torch
from mmengine.utils import digit_version

from mmvg.checkpoints import read_checkpoint, read_file
from mmvg.checkpoints.messages import explained

needs_allow_list = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6'),
    reason="torch cannot be told that mmengine's log history is harmless",
)


class Exploit:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def save(content, path):
    torch.save(content, path)
    return str(path)


@pytest.fixture(params=['file', 'address'])
def exploit(request, monkeypatch, tmp_path):
    """A checkpoint with code, as a file or as an address whose download is there already."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    content = dict(state_dict=dict(a=torch.ones(1)), x=Exploit(tmp_path / 'run'))
    path = save(content, tmp_path / 'checkpoints/bad.pth')
    return path if request.param == 'file' else 'https://example.invalid/bad.pth'


@needs_allow_list
@pytest.mark.parametrize('name', ['', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'])
def test_no_code_is_run(exploit, monkeypatch, tmp_path, name):
    if name:
        monkeypatch.setenv(name, '1')
    before = dict(os.environ)
    with pytest.raises(ValueError, match=r'bad.pth was not loaded: it holds \S*mkdir.*converters'):
        read_checkpoint(exploit)
    assert not (tmp_path / 'run').exists()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    'message, expected',
    [
        (
            'Weights only load failed. ... Unsupported class argparse.Namespace',
            'argparse.Namespace',
        ),
        ('Weights only load failed. ... Unsupported global: GLOBAL os.mkdir was', 'os.mkdir'),
    ],
)
def test_what_torch_of_any_version_refuses_is_no_damage(message, expected):
    with pytest.raises(ValueError, match=f'a.pth was not loaded: it holds {expected}, .*; ask'):
        with explained('a.pth', 'ask'):
            raise pickle.UnpicklingError(message)


def test_damaged_file_is_refused(tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(dict(weight=torch.ones(1000)), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match='checkpoint .*cut.pth cannot be read .*download it again'):
        read_checkpoint(str(path))
    with pytest.raises(ValueError, match='file of mine .*cut.pth cannot be read'):
        read_file(str(path), 'none', what='file of mine')


def test_read_checkpoint_gives_tensors_and_meta(tmp_path):
    content = dict(state_dict={'module.weight': torch.ones(2), 'version': 3}, meta=dict(epoch=4))
    state, meta = read_checkpoint(save(content, tmp_path / 'given.pth'))
    assert state.keys() == {'weight'} and torch.equal(state['weight'], torch.ones(2))
    assert meta == dict(epoch=4)
    assert read_checkpoint(save({'weight': torch.ones(2)}, tmp_path / 'plain.pth'))[1] == {}
