from .grounding_tta import GroundingTTAModel
from .qrnet import QRNet
from .reir import ReIR
from .transvg import TransVG
from .vcma import VCMA

__all__ = ['VCMA', 'GroundingTTAModel', 'QRNet', 'ReIR', 'TransVG']
