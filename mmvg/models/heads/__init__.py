from .coarse_to_fine_matching_head import CoarseToFineMatchingHead
from .reg_token_head import RegTokenHead

__all__ = ['CoarseToFineMatchingHead', 'RegTokenHead']
