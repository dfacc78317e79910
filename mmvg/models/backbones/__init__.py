from .query_swin import QueryModulatedSwin

__all__ = ['QueryModulatedSwin']
