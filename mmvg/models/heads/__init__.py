from .coarse_to_fine_matching_head import CoarseToFineMatchingHead
from .reg_token_head import RegTokenHead
from .video_tube_head import VideoTubeHead

__all__ = ['CoarseToFineMatchingHead', 'RegTokenHead', 'VideoTubeHead']
