from .category_similarity import CategorySimilarity
from .detr_visual_encoder import DETRVisualEncoder, downsample_padding
from .dynamic_linear import DynamicLinear
from .pyramid_visual_encoder import PyramidVisualEncoder
from .query_dynamic_attention import QueryDynamicAttention
from .transformer import TransformerEncoder, TransformerEncoderLayer

__all__ = [
    'CategorySimilarity',
    'DETRVisualEncoder',
    'DynamicLinear',
    'PyramidVisualEncoder',
    'QueryDynamicAttention',
    'TransformerEncoder',
    'TransformerEncoderLayer',
    'downsample_padding',
]
