from .box_detector import BoxDetector, match_categories
from .checkpoint import (
    check_checkpoint_path,
    check_initial_weights,
    load_weights,
    read_checkpoint,
)
from .grounding_inferencer import GroundingInferencer
from .start_up import (
    check_first_picture,
    check_together,
    concise_errors,
    load_config,
    set_up_distribution,
    start_from,
)

__all__ = [
    'BoxDetector',
    'GroundingInferencer',
    'check_checkpoint_path',
    'check_first_picture',
    'check_initial_weights',
    'check_together',
    'concise_errors',
    'load_config',
    'load_weights',
    'match_categories',
    'read_checkpoint',
    'set_up_distribution',
    'start_from',
]
