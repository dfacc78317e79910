from .checkpoint import check_checkpoint_path, load_weights
from .grounding_inferencer import GroundingInferencer
from .start_up import concise_errors, load_config, set_up_distribution

__all__ = [
    'GroundingInferencer',
    'check_checkpoint_path',
    'concise_errors',
    'load_config',
    'load_weights',
    'set_up_distribution',
]
