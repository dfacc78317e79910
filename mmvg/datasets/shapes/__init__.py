from .captions import RELATION_NAMES, Caption, write_caption
from .language import EXPRESSION_TYPES, VOCABULARY, refer_to
from .scene import CLASSES, Scene, Shape, render_scene, sample_scene
from .video import Event, Video, sample_video
from .video_language import Sentence, write_sentences
from .video_relations import PREDICATES

__all__ = [
    'CLASSES',
    'Caption',
    'EXPRESSION_TYPES',
    'Event',
    'PREDICATES',
    'RELATION_NAMES',
    'Scene',
    'Sentence',
    'Shape',
    'VOCABULARY',
    'Video',
    'refer_to',
    'render_scene',
    'sample_scene',
    'sample_video',
    'write_caption',
    'write_sentences',
]
