import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mmvg.compat import ops


@pytest.fixture
def fallback(monkeypatch):
    """The fallback, which mmcv's RoIAlign calls even if this mmcv has compiled operators."""
    import mmcv.ops  # noqa: F401

    module = ops.TorchvisionExt()
    # The package's attribute of this name is the function roi_align.
    monkeypatch.setattr(sys.modules['mmcv.ops.roi_align'], 'ext_module', module)
    return module


def run_python(code: str) -> str:
    """Last line that the code prints in a new process; the forks print others while imported."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_nms_by_hand(fallback):
    # IoU of the first two boxes: 8 * 10 / (100 + 100 - 80) = 2 / 3.
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [20, 20, 30, 30]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    assert fallback.nms(boxes, scores, 0.66, 0).tolist() == [1, 2]
    assert fallback.nms(boxes, scores, 0.67, 0).tolist() == [1, 2, 0]
    assert fallback.nms(boxes[:0], scores[:0], 0.5, 0).tolist() == []


def test_nms_offset_counts_border_pixels(fallback):
    # Boxes of 1 and 2 px in width: IoU is 1/2 with the offset, and 0/1 without.
    boxes = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 0]])
    scores = torch.tensor([0.9, 0.8])
    assert fallback.nms(boxes, scores, 0.49, 1).tolist() == [0]
    assert fallback.nms(boxes, scores, 0.51, 1).tolist() == [0, 1]
    assert fallback.nms(boxes, scores, 0.49, 0).tolist() == [0, 1]


def test_mmcv_calls_the_fallback():
    printed = run_python("""
import mmvg, torch
from mmcv.ops import RoIAlign, batched_nms
boxes = torch.tensor([[0., 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10]])
_, kept = batched_nms(boxes, torch.tensor([.5, .9, .7]), torch.tensor([0, 0, 1]),
                      dict(type='nms', iou_threshold=0.5))
ramp = torch.arange(8.).expand(1, 1, 8, 8).contiguous().requires_grad_()
pooled = RoIAlign(2, sampling_ratio=2)(ramp, torch.tensor([[0., 2, 2, 6, 6]]))
pooled.sum().backward()
print(kept.tolist(), pooled.detach().flatten().tolist(), ramp.grad.sum().item())
""")
    # Pixel x holds the value x at its centre x + 0.5; the bins' centres lie at x = 3 and 5.
    assert printed == '[1, 2] [2.5, 4.5, 2.5, 4.5] 4.0'


@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_gradient(fallback, aligned):
    from mmcv.ops import roi_align

    torch.manual_seed(0)
    features = torch.randn(2, 3, 6, 7, dtype=torch.double, requires_grad=True)
    rois = torch.tensor([[1, 0.3, 1.2, 9.5, 8.1], [0, 4, 4, 12, 10]], dtype=torch.double)
    torch.autograd.gradcheck(lambda x: roi_align(x, rois, (2, 3), 0.5, 0, 'avg', aligned), features)


def test_max_pooling_is_refused(fallback):
    from mmcv.ops import roi_align

    with pytest.raises(NotImplementedError, match='roi_align with max pooling.*Replace mmcv-lite'):
        roi_align(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), 2, 1.0, 0, 'max', True)


def test_other_op_names_itself_and_the_remedy(fallback):
    assert not hasattr(fallback, '__file__')
    with pytest.raises(NotImplementedError, match='operator softnms .*Replace mmcv-lite'):
        fallback.softnms(None, threshold=1)


def test_working_ext_is_left_alone(monkeypatch):
    real = ModuleType(ops.EXT_NAME)
    monkeypatch.setitem(sys.modules, ops.EXT_NAME, real)
    assert not ops.install_fallback()
    assert sys.modules[ops.EXT_NAME] is real


def test_ext_of_another_torch_is_replaced_with_a_warning(tmp_path, monkeypatch):
    import mmcv

    (tmp_path / '_ext.py').write_text("raise ImportError('undefined symbol: torch')")
    monkeypatch.delitem(sys.modules, ops.EXT_NAME)
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path)])
    monkeypatch.setattr(mmcv, '_ext', None, raising=False)
    with pytest.warns(UserWarning, match='cannot be loaded with torch .*undefined symbol'):
        assert ops.install_fallback()
    assert isinstance(mmcv._ext, ops.TorchvisionExt)


def test_mmcv_ops_that_failed_before_works_after():
    printed = run_python("""
import sys
try:
    import mmcv.ops
except ModuleNotFoundError as error:
    assert error.name == 'mmcv._ext', error
import mmvg, mmcv.ops, mmdet.models
print(mmcv.ops.nms.__module__)
""")
    assert printed == 'mmcv.ops.nms'


def test_environment_report_of_mmcv_works():
    from mmcv.utils import collect_env

    assert isinstance(collect_env()['MMCV Compiler'], str)
