from mmvg.checkpoints import (
    check_checkpoint_path,
    check_initial_weights,
    load_weights,
    read_checkpoint,
)

from .box_detector import BoxDetector, match_categories
from .dataset_configs import SPLITS, class_of, single_datasets, split_datasets
from .grounding_inferencer import GroundingInferencer
from .recipe_files import check_files
from .start_up import (
    check_first_picture,
    check_together,
    concise_errors,
    leave_distribution,
    load_config,
    set_up_distribution,
    start_from,
)
from .video_grounding_inferencer import VideoGroundingInferencer

__all__ = [
    'BoxDetector',
    'GroundingInferencer',
    'SPLITS',
    'VideoGroundingInferencer',
    'check_checkpoint_path',
    'check_files',
    'check_first_picture',
    'check_initial_weights',
    'check_together',
    'class_of',
    'concise_errors',
    'leave_distribution',
    'load_config',
    'load_weights',
    'match_categories',
    'read_checkpoint',
    'set_up_distribution',
    'single_datasets',
    'split_datasets',
    'start_from',
]
