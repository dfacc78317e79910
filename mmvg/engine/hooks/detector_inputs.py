"""What a running detector was fed: texts, and pictures as they were before normalisation."""

from mmdet.structures import DetDataSample
from mmengine.runner import Runner
from torch import Tensor, nn


def texts_of(sample: DetDataSample) -> list[str]:
    """The queries of a sample; of a detector of MMDetection its one text."""
    if 'queries' in sample:
        return list(sample.queries)
    if 'text' not in sample:
        raise ValueError(
            'the samples of this detector have neither queries nor a text to distil; set beta=0 of '
            'CLIPDistillationHook'
        )
    return ['. '.join(sample.text) if has_class_names(sample) else sample.text]


def has_class_names(sample: DetDataSample) -> bool:
    """Whether the text of a sample is the tuple of all class names."""
    return 'queries' not in sample and not isinstance(sample.get('text', ''), str)


def channel_order_of(preprocessor: nn.Module | None, runner: Runner) -> str:
    """``'rgb'`` or ``'bgr'``, that of the network input."""
    swaps = getattr(preprocessor, '_channel_conversion', False)
    # From what to what, only its config tells.
    model_cfg = getattr(runner, 'cfg', {}).get('model') or {}
    from_rgb = (model_cfg.get('data_preprocessor') or {}).get('rgb_to_bgr', False)
    return 'rgb' if swaps and not from_rgb else 'bgr'


def to_rgb(preprocessor: nn.Module, images: Tensor, channel_order: str) -> Tensor:
    """Undo the normalisation of a network input: RGB, 0 to 255."""
    if getattr(preprocessor, '_enable_normalize', False):
        images = images * preprocessor.std + preprocessor.mean
    return images if channel_order == 'rgb' else images.flip(1)
