from .grounding_tta import GroundingTTAModel
from .transvg import TransVG

__all__ = ['GroundingTTAModel', 'TransVG']
