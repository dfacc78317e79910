from .embedding_cache import EmbeddingCache
from .open_clip import OpenCLIPTeacher

__all__ = ['EmbeddingCache', 'OpenCLIPTeacher']
