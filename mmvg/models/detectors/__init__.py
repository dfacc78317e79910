from .grounding_tta import GroundingTTAModel
from .qrnet import QRNet
from .transvg import TransVG

__all__ = ['GroundingTTAModel', 'QRNet', 'TransVG']
