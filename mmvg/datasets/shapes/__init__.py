from .captions import RELATION_NAMES, Caption, write_caption
from .language import EXPRESSION_TYPES, VOCABULARY, refer_to
from .scene import CLASSES, Scene, Shape, render_scene, sample_scene

__all__ = [
    'CLASSES',
    'Caption',
    'EXPRESSION_TYPES',
    'RELATION_NAMES',
    'Scene',
    'Shape',
    'VOCABULARY',
    'refer_to',
    'render_scene',
    'sample_scene',
    'write_caption',
]
