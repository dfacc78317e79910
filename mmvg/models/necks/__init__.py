from .query_fpn import QueryModulatedFPN
from .relation_graph import RelationGraphNeck

__all__ = ['QueryModulatedFPN', 'RelationGraphNeck']
