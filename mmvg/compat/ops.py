"""mmcv without compiled operators.

``import mmdet.models`` needs ``mmcv._ext``, although few models call it. ``mmcv-lite`` and a
pure Python build do not have it, building it takes tens of minutes, and torch >= 2.14 (C++20
headers) cannot build it at all.

Upstream: https://github.com/open-mmlab/mmcv/issues/3310,
https://github.com/open-mmlab/mmcv/issues/3341.
"""

import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor

EXT_NAME = 'mmcv._ext'


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression, as ``mmcv._ext.nms``.

    Args:
        boxes: N x 4, xyxy in px.
        scores: (N,).
        iou_threshold: A box is dropped if its IoU with a kept one is greater.
        offset: 0, or 1 where widths and heights count both border pixels.

    Returns:
        Indices of the kept boxes, best score first.
    """
    # x2 - x1 + offset is the width in areas and intersections alike, so moving x2 and y2 is exact.
    far_corner = boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes + far_corner, scores, iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign with average pooling, written to ``output`` as ``mmcv._ext`` does.

    Args:
        input: B x C x H x W.
        rois: N x 5, (index in the batch, x1, y1, x2, y2).
        output: N x C x ``aligned_height`` x ``aligned_width``, overwritten.
        argmax_y: Unused: only max pooling fills it.
        argmax_x: Unused.
        aligned_height: Bins along y.
        aligned_width: Bins along x.
        spatial_scale: Feature px per unit of ``rois``.
        sampling_ratio: Samples per bin and axis; 0 adapts it to the RoI.
        pool_mode: 1 is average; 0, max, is refused.
        aligned: Whether pixel centres lie at half integers.

    Raises:
        NotImplementedError: For max pooling, which torchvision does not have.
    """
    if pool_mode != 1:
        raise NotImplementedError(_missing('roi_align with max pooling'))
    size = (aligned_height, aligned_width)
    output.copy_(
        torchvision.ops.roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned)
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    **geometry: Any,
) -> None:
    """Gradient of :func:`roi_align_forward`, written to ``grad_input`` (B x C x H x W)."""
    with torch.enable_grad():
        # RoIAlign is linear in its input, so the gradient can be taken at any input.
        features = torch.zeros_like(grad_input, requires_grad=True)
        output = torch.zeros_like(grad_output)
        roi_align_forward(features, rois, output, argmax_y, argmax_x, **geometry)
        grad_input.copy_(torch.autograd.grad(output, features, grad_output)[0])


def compiler_version() -> str:
    """What ``mmcv.utils.collect_env`` prints for the operators' compiler."""
    return 'n/a (operators of torchvision, see mmvg.compat.ops)'


class TorchvisionExt(ModuleType):
    """Module that stands in for ``mmcv._ext``.

    Names without a torchvision counterpart resolve to a function that raises when called, because
    ``mmcv.ops`` looks every operator up while it is imported.
    """

    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)
    get_compiler_version = staticmethod(compiler_version)
    get_compiling_cuda_version = staticmethod(compiler_version)

    def __init__(self) -> None:
        super().__init__(EXT_NAME, self.__doc__)
        self.__spec__ = ModuleSpec(EXT_NAME, loader=None, origin=__name__)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith('__'):
            raise AttributeError(f'module {EXT_NAME!r} has no attribute {name!r}')

        def missing_op(*args: Any, **kwargs: Any) -> None:
            raise NotImplementedError(_missing(name))

        return missing_op


def install_fallback() -> bool:
    """Register :class:`TorchvisionExt` if ``mmcv._ext`` cannot be imported.

    Returns:
        Whether the fallback is in place. A working ``mmcv._ext`` is left alone.
    """
    try:
        return isinstance(importlib.import_module(EXT_NAME), TorchvisionExt)
    except ImportError as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name == EXT_NAME):
            warnings.warn(
                f'mmcv has compiled operators, but they cannot be loaded with torch '
                f'{torch.__version__} ({error}); mmvg falls back to torchvision for NMS and '
                f'RoIAlign. Reinstall mmcv for this torch to have them all.',
                stacklevel=2,
            )
    fallback = TorchvisionExt()
    sys.modules[EXT_NAME] = fallback
    importlib.import_module('mmcv')._ext = fallback
    return True


def _missing(op: str) -> str:
    return (
        f'The mmcv operator {op} needs the compiled operators of mmcv, which are not installed '
        f'(no model of mmvg uses them). Replace mmcv-lite by a full mmcv that is built for torch '
        f'{torch.__version__}: '
        'https://mmcv.readthedocs.io/en/latest/get_started/installation.html'
    )
