import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from ..layers.masked_softmax import masked_softmax

MODES = ('softmax_hinge', 'hinge', 'infonce')


@MODELS.register_module()
class CaptionRankingLoss(nn.Module):
    """An image and its caption belong together more than any other pair (ReIR; spec 3.4, A34).

    Args:
        mode (str): ``'softmax_hinge'`` (release): a margin between the probability of the own caption
            and that of the hardest other one, and the same over images; ``'hinge'``: the margin
            on the scores themselves; ``'infonce'``: cross-entropy at ``temperature``.
        margin (float): Of the two hinges.
        temperature (float): Of InfoNCE.
        group_size (int, optional): Negatives come from groups of this many neighbours in the batch,
            as from the images of one GPU of four in the release (A21). None: from the whole batch.
        mask_same_image (bool): Other captions of the same image are no negatives (A33).
        loss_weight (float): lambda_3.
    """

    def __init__(
        self,
        mode: str = 'softmax_hinge',
        margin: float = 0.2,
        temperature: float = 0.05,
        group_size: int | None = None,
        mask_same_image: bool = False,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f'mode must be one of {MODES}, not {mode!r}')
        self.mode = mode
        self.margin = margin
        self.temperature = temperature
        self.group_size = group_size
        self.mask_same_image = mask_same_image
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor, image_ids: Tensor | None = None) -> Tensor:
        """Loss of each image, (B,).

        Args:
            scores (Tensor): B x B, of image i and caption j.
            image_ids (Tensor, optional): (B,), equal for captions of the same image.
        """
        scores = scores.float()
        number = torch.arange(len(scores), device=scores.device)
        group = number // (self.group_size or len(scores))
        pairs = group[:, None] == group
        if self.mask_same_image:
            if image_ids is None:
                raise ValueError('mask_same_image needs image_ids in the inputs of the model')
            pairs &= (image_ids[:, None] != image_ids) | (number[:, None] == number)
        if self.mode == 'infonce':
            losses = [self._cross_entropy(s, pairs) for s in (scores, scores.T)]
        else:
            losses = [self._hinge(s, pairs) for s in (scores, scores.T)]
        return self.loss_weight * sum(losses)

    def _hinge(self, scores: Tensor, pairs: Tensor) -> Tensor:
        if self.mode == 'softmax_hinge':
            scores = masked_softmax(scores, pairs)
        own = scores.diagonal()
        others = pairs & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        excess = (scores - own[:, None] + self.margin).clamp(min=0)
        return (excess * others).amax(1)

    def _cross_entropy(self, scores: Tensor, pairs: Tensor) -> Tensor:
        scores = (scores / self.temperature).masked_fill(~pairs, -torch.inf)
        return -scores.log_softmax(1).diagonal()
