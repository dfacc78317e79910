from .distillation import (
    CosineDistillLoss,
    L1DistillLoss,
    LargeMarginDistillLoss,
    match_width,
)

__all__ = ['CosineDistillLoss', 'L1DistillLoss', 'LargeMarginDistillLoss', 'match_width']
