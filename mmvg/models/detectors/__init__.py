from .grounding_tta import GroundingTTAModel
from .qrnet import QRNet
from .reir import ReIR
from .transvg import TransVG

__all__ = ['GroundingTTAModel', 'QRNet', 'ReIR', 'TransVG']
