from .metrics import GroundingMetric

__all__ = ['GroundingMetric']
