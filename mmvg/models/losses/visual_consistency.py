from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class VisualConsistencyLoss(nn.Module):
    """A phrase and its box should tell where the box is (KAC Net; spec reir 6.1, row ``Kac``).

    For every pair of phrase and box the place of the box is predicted, x1, y1, x2, y2 in units of the
    picture less 0.5. The smooth L1 error, averaged over the four, is weighted by the attention of the
    pair and summed over pairs. As in the released code, attention is not detached: it learns to avoid
    boxes whose place cannot be told.

    Args:
        loss_weight (float): Factor.
    """

    def __init__(self, loss_weight: float = 0.1) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, places: Tensor, boxes: Tensor, image_sizes: Tensor, attention: Tensor
    ) -> Tensor:
        """Loss of each image, (B,).

        Args:
            places (Tensor): Predictions, B x N x P x 4.
            boxes (Tensor): B x (N or 1) x P x 4 xyxy in pixels.
            image_sizes (Tensor): B x 2, height and width in pixels.
            attention (Tensor): B x N x P, 0 where there is no such phrase or box.
        """
        units = image_sizes.flip(1).repeat(1, 2).to(boxes)[:, None, None]
        truth = (boxes / units - 0.5).expand_as(places)
        errors = F.smooth_l1_loss(places.float(), truth.float(), reduction='none').mean(-1)
        return self.loss_weight * (attention * errors).sum((1, 2))
