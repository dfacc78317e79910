from .bert import BertEncoder

__all__ = ['BertEncoder']
