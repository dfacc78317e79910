from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmvg.text.relation_categories import RelationCategories


def class_weights(counts: Sequence[int], largest: float = 10.0) -> Tensor:
    """From 1 for the most frequent class to ``largest`` for the rarest (spec 3.3).

    Linear in the inverse square root of the count.
    """
    if min(counts) < 1:
        raise ValueError(
            f'class_counts has {min(counts)} for category {list(counts).index(min(counts))}; '
            'leave out categories that do not occur in training'
        )
    rarity = torch.tensor(counts, dtype=torch.float64).rsqrt()
    spread = (rarity - rarity.min()) / (rarity.max() - rarity.min()).clamp(min=1e-12)
    return (1 + (largest - 1) * spread).float()


@MODELS.register_module()
class RelationLoss(nn.Module):
    """Classifies the relation of two phrases from their visual features (ReIR, Eq. 17; spec 3.3).

    Args:
        mode (str): ``'bce'``: several categories per relation, each a yes or no, weighted (release);
            ``'ce'``: one category, softmax (paper; the first one where there are several).
        class_counts (Sequence[int] | str, optional): How often each category occurs in training, or the
            file that says it; without, all weigh the same.
        max_class_weight (float): Weight of the rarest category; 1 switches weights off.
        norm (str): Of an image: ``'mean'`` over its relations (release) or their ``'sum'`` (Eq. 17).
        loss_weight (float): lambda_2.
    """

    def __init__(
        self,
        mode: str = 'bce',
        class_counts: Sequence[int] | str | None = None,
        max_class_weight: float = 10.0,
        norm: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if mode not in ('bce', 'ce'):
            raise ValueError(f"mode must be 'bce' or 'ce', not {mode!r}")
        if norm not in ('mean', 'sum'):
            raise ValueError(f"norm must be 'mean' or 'sum', not {norm!r}")
        self.mode = mode
        self.norm = norm
        self.loss_weight = loss_weight
        if isinstance(class_counts, str):
            class_counts = RelationCategories.load(class_counts).counts
        weights = None if class_counts is None else class_weights(class_counts, max_class_weight)
        self.register_buffer('weights', weights, persistent=False)

    def forward(
        self, logits: Tensor, targets: Tensor, image_index: Tensor, num_images: int
    ) -> Tensor:
        """Loss of each image, (B,); relations without a category do not count.

        Args:
            logits (Tensor): R x C.
            targets (Tensor): R x C, 1 for the categories of a relation.
            image_index (Tensor): (R,), the image that a relation belongs to.
            num_images (int): B.
        """
        logits, targets = logits.float(), targets.float()
        listed = targets.any(1)
        if self.mode == 'bce':
            losses = F.binary_cross_entropy_with_logits(
                logits, targets, self.weights, reduction='none'
            )
            losses = losses.mean(1)
        else:
            losses = F.cross_entropy(logits, targets.argmax(1), self.weights, reduction='none')
        zeros = torch.zeros(num_images, dtype=losses.dtype, device=losses.device)
        total = zeros.index_add(0, image_index, losses * listed)
        if self.norm == 'sum':
            return self.loss_weight * total
        count = zeros.index_add(0, image_index, listed.to(losses.dtype))
        return self.loss_weight * total / count.clamp(min=1)
