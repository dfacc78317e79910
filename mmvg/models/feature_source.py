"""What RoI features come from, so that cached ones are never used with another backbone."""

import hashlib

import torch
from torch import nn

PARTS = ('data_preprocessor', 'backbone', 'roi_extractor', 'shared_head')


def describe_source(model: nn.Module) -> dict[str, str]:
    """A digest per part of a ReIR that features depend on: its settings and its weights.

    Settings are what the innermost modules of the part say of themselves (kernel, stride, RoI size),
    so it does not matter how a config words them; weights count bit by bit.
    """
    return {part: _digest(getattr(model, part)) for part in PARTS}


def check_source(model: nn.Module, source: dict[str, str], path: str) -> None:
    """Raise ValueError unless the features of file ``path`` come from this very model."""
    own = describe_source(model)
    differing = [part for part in PARTS if own[part] != source.get(part)]
    if differing:
        raise ValueError(
            f'RoI feature file {path} was made with another {", ".join(differing)} (settings or '
            'weights) than this model has; give the model the same weights, or make another file '
            'with tools/analysis_tools/extract_roi_features.py from this config'
        )


def _digest(part: nn.Module) -> str:
    result = hashlib.sha256()
    for name, module in part.named_modules():
        if not any(module.children()):
            result.update(f'{name} {_settings(module)}\n'.encode())
    for name, tensor in sorted({**part.state_dict(), **dict(part.named_buffers())}.items()):
        if not name.endswith('num_batches_tracked'):  # of no use in evaluation mode
            result.update(name.encode())
            result.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return result.hexdigest()[:16]


def _settings(module: nn.Module) -> str:
    names = ('pad_size_divisor', 'pad_value', '_channel_conversion')  # of a data preprocessor
    values = {name: getattr(module, name) for name in names if hasattr(module, name)}
    return f'{values}' if values else f'{module}'
