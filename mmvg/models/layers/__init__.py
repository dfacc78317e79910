from .detr_visual_encoder import DETRVisualEncoder, downsample_padding
from .transformer import TransformerEncoder, TransformerEncoderLayer

__all__ = [
    'DETRVisualEncoder',
    'TransformerEncoder',
    'TransformerEncoderLayer',
    'downsample_padding',
]
