from .reading import check_checkpoint_path, read_checkpoint, read_file
from .weights import check_initial_path, check_initial_weights, load_weights, unwrap

__all__ = [
    'check_checkpoint_path',
    'check_initial_path',
    'check_initial_weights',
    'load_weights',
    'read_checkpoint',
    'read_file',
    'unwrap',
]
