import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.utils import digit_version

from mmvg.compat.checkpoints import allow_log_history, history_getattr

needs_default = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6'),
    reason='weights_only is off by default before torch 2.6',
)


class Call:
    """Pickles as the call ``function(*args)``, which is how an attack is written."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.fixture
def history():
    buffer = HistoryBuffer([0.5, 0.25], [1, 1])
    buffer.update(0.125)
    return buffer


def save(tmp_path, content) -> str:
    path = str(tmp_path / 'epoch_1.pth')
    torch.save(content, path)
    return path


@needs_default
def test_log_history_loads_with_weights_only(tmp_path, history):
    message_hub = {'log_scalars': {'train/loss': history}, 'runtime_info': {'best': np.float64(3)}}
    path = save(tmp_path, {'message_hub': message_hub, 'rng': np.random.get_state()})
    loaded = torch.load(path)
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert buffer.data[0].tolist() == [0.5, 0.25, 0.125]
    assert buffer.statistics('mean', 2) == pytest.approx(0.1875)
    assert loaded['message_hub']['runtime_info']['best'] == 3
    assert np.array_equal(loaded['rng'][1], np.random.get_state()[1])


@needs_default
def test_it_is_the_allow_list_that_makes_it_load(tmp_path, history):
    path = save(tmp_path, {'history': history})
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer'):
            torch.load(path)
        allow_log_history()
        torch.load(path)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)


@needs_default
@pytest.mark.parametrize('module', [b'numpy.core.multiarray', b'numpy._core.multiarray'])
def test_arrays_of_both_numpy_generations_load(tmp_path, module):
    content = {'array': np.arange(3), 'scalar': np.float64(1.5)}
    written = save(tmp_path, content)
    rewritten = tmp_path / 'other_numpy.pth'
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(rewritten, 'w') as target:
        for name in source.namelist():
            data = re.sub(
                rb'cnumpy\._?core\.multiarray\n', b'c' + module + b'\n', source.read(name)
            )
            assert module in data or not name.endswith('data.pkl')
            target.writestr(name, data)
    loaded = torch.load(rewritten)
    assert loaded['array'].tolist() == [0, 1, 2]
    assert loaded['scalar'] == 1.5


@needs_default
@pytest.mark.parametrize(
    ('target', 'name'),
    [
        (HistoryBuffer, 'register_statistics'),
        (HistoryBuffer, '__init__'),
        (np.ndarray, 'tofile'),
        (torch.Tensor, 'mean'),
    ],
)
def test_getattr_reaches_nothing_else(tmp_path, target, name):
    path = save(tmp_path, {'weight': torch.zeros(1), 'x': Call(getattr, target, name)})
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        torch.load(path)


@needs_default
def test_other_functions_stay_blocked(tmp_path):
    marker = tmp_path / 'executed'
    path = save(tmp_path, Call(exec, f'open({str(marker)!r}, "w")'))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    assert not marker.exists()


@needs_default
def test_mmengine_loads_and_says_why_it_refuses(tmp_path, history):
    model = torch.nn.Linear(1, 1)
    path = save(tmp_path, {'state_dict': model.state_dict(), 'history': history})
    assert 'history' in load_checkpoint(model, path)
    with pytest.raises(ValueError, match="Blocked.*'register_statistics'"):
        history_getattr(HistoryBuffer, 'register_statistics')
