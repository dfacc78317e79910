from .language import EXPRESSION_TYPES, VOCABULARY, refer_to
from .scene import CLASSES, Scene, Shape, render_scene, sample_scene

__all__ = [
    'CLASSES',
    'EXPRESSION_TYPES',
    'Scene',
    'Shape',
    'VOCABULARY',
    'refer_to',
    'render_scene',
    'sample_scene',
]
