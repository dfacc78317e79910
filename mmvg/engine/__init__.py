from .hooks import EpochSeedHook, QueryVisualizationHook, ResumableCheckpointHook
from .optim import GroupOptimWrapperConstructor

__all__ = [
    'EpochSeedHook',
    'GroupOptimWrapperConstructor',
    'QueryVisualizationHook',
    'ResumableCheckpointHook',
]
