from .query_fpn import QueryModulatedFPN

__all__ = ['QueryModulatedFPN']
