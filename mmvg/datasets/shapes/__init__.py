from .language import EXPRESSION_TYPES, VOCABULARY, refer_to
from .scene import Scene, Shape, render_scene, sample_scene

__all__ = [
    'EXPRESSION_TYPES',
    'Scene',
    'Shape',
    'VOCABULARY',
    'refer_to',
    'render_scene',
    'sample_scene',
]
