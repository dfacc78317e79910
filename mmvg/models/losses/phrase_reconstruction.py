import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class PhraseReconstructionLoss(nn.Module):
    """Cross-entropy of the words of a phrase and its end (ReIR, Eq. 14; spec 3, A12).

    Args:
        norm (str): Of an image: ``'token_mean'``, over all words of all phrases (release), or
            ``'phrase_sum'``, the sum over phrases of the mean over a phrase's words.
        loss_weight (float): Factor.
    """

    def __init__(self, norm: str = 'token_mean', loss_weight: float = 1.0) -> None:
        super().__init__()
        if norm not in ('token_mean', 'phrase_sum'):
            raise ValueError(f"norm must be 'token_mean' or 'phrase_sum', not {norm!r}")
        self.norm = norm
        self.loss_weight = loss_weight

    def forward(
        self, logits: Tensor, targets: Tensor, counts: Tensor, image_index: Tensor, num_images: int
    ) -> Tensor:
        """Loss of each image, (B,).

        Args:
            logits (Tensor): Q x L x V.
            targets (Tensor): Q x L.
            counts (Tensor): Q x L bool, which positions are words or the end.
            image_index (Tensor): (Q,), the image that a phrase belongs to.
            num_images (int): B.
        """
        losses = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction='none')
        losses = (losses * counts).sum(1)
        lengths = counts.sum(1).to(losses.dtype)
        zeros = torch.zeros(num_images, dtype=losses.dtype, device=losses.device)
        if self.norm == 'phrase_sum':
            return self.loss_weight * zeros.index_add(0, image_index, losses / lengths)
        total = zeros.index_add(0, image_index, losses)
        return self.loss_weight * total / zeros.index_add(0, image_index, lengths).clamp(min=1)
