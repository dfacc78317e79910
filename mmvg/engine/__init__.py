from .hooks import (
    CLIPDistillationHook,
    EpochSeedHook,
    QueryVisualizationHook,
    ResumableCheckpointHook,
    VariationalEMHook,
)
from .loops import ResumableIterTrainLoop
from .optim import GroupOptimWrapperConstructor

__all__ = [
    'CLIPDistillationHook',
    'EpochSeedHook',
    'GroupOptimWrapperConstructor',
    'QueryVisualizationHook',
    'ResumableCheckpointHook',
    'ResumableIterTrainLoop',
    'VariationalEMHook',
]
