from .backbones import *  # noqa: F401,F403
from .data_preprocessor import GroundingDataPreprocessor
from .detectors import *  # noqa: F401,F403
from .heads import *  # noqa: F401,F403
from .language_models import *  # noqa: F401,F403
from .layers import *  # noqa: F401,F403
from .losses import *  # noqa: F401,F403
from .necks import *  # noqa: F401,F403
from .phrase_data_preprocessor import PhraseDataPreprocessor
from .region_extractor import RegionExtractor
from .task_modules import *  # noqa: F401,F403
from .teachers import *  # noqa: F401,F403
from .video_data_preprocessor import VideoDataPreprocessor

__all__ = [
    'GroundingDataPreprocessor',
    'PhraseDataPreprocessor',
    'RegionExtractor',
    'VideoDataPreprocessor',
]
