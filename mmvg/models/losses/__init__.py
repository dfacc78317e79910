from .caption_ranking import CaptionRankingLoss
from .distillation import (
    CosineDistillLoss,
    L1DistillLoss,
    LargeMarginDistillLoss,
    match_width,
)
from .phrase_reconstruction import PhraseReconstructionLoss
from .relation import RelationLoss
from .self_taught_regression import SelfTaughtRegressionLoss
from .visual_consistency import VisualConsistencyLoss

__all__ = [
    'CaptionRankingLoss',
    'CosineDistillLoss',
    'L1DistillLoss',
    'LargeMarginDistillLoss',
    'PhraseReconstructionLoss',
    'RelationLoss',
    'SelfTaughtRegressionLoss',
    'VisualConsistencyLoss',
    'match_width',
]
