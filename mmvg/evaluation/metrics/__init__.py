from .grounding_metric import GroundingMetric
from .phrase_grounding_metric import PhraseGroundingMetric
from .video_tube_metric import VideoTubeMetric

__all__ = ['GroundingMetric', 'PhraseGroundingMetric', 'VideoTubeMetric']
