from .grounding_inferencer import GroundingInferencer
from .start_up import concise_errors, load_config, set_up_distribution

__all__ = ['GroundingInferencer', 'concise_errors', 'load_config', 'set_up_distribution']
