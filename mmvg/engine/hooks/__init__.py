from .clip_distillation_hook import CLIPDistillationHook
from .epoch_seed_hook import EpochSeedHook
from .query_visualization_hook import QueryVisualizationHook
from .resumable_checkpoint_hook import ResumableCheckpointHook
from .variational_em_hook import VariationalEMHook

__all__ = [
    'CLIPDistillationHook',
    'EpochSeedHook',
    'QueryVisualizationHook',
    'ResumableCheckpointHook',
    'VariationalEMHook',
]
