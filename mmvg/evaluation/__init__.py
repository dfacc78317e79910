from .metrics import GroundingMetric, PhraseGroundingMetric, VideoTubeMetric

__all__ = ['GroundingMetric', 'PhraseGroundingMetric', 'VideoTubeMetric']
