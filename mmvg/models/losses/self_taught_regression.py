import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor, nn
from torch.nn import functional as F

from mmvg.structures import encode_deltas

NORMS = ('candidates', 'active', 'phrase_sum')


@MODELS.register_module()
class SelfTaughtRegressionLoss(nn.Module):
    """Draws boxes towards the most confident box near them (ReIR, Eq. 15; spec 3.1, 3.2).

    For every phrase the box of the highest confidence is the teacher; boxes that overlap it are to
    be regressed onto it. No annotated box takes part.

    Args:
        iou_thr (float): tau; boxes with IoU >= tau to the teacher are candidates.
        score_gap (float): Candidates count only if the teacher's confidence exceeds theirs by this
            much; in the released code, not in the paper (0 = paper; spec A14).
        include_self (bool): The teacher itself learns to stay where it is (A16). Off, as in the
            release: boxes that are the teacher, or its duplicates, are left out.
        norm (str): ``'candidates'`` divides the sum of an image by its candidates, counted or not
            (release); ``'active'`` by those that count; ``'phrase_sum'`` takes the mean of a phrase's
            candidates and sums over phrases (A17).
        detach_boxes (bool): Boxes and teacher are constants. The release lets gradients through, so
            that the fine stage moves the boxes of the coarse one (A15).
        loss_weight (float): lambda_1.
    """

    def __init__(
        self,
        iou_thr: float = 0.6,
        score_gap: float = 0.1,
        include_self: bool = False,
        norm: str = 'candidates',
        detach_boxes: bool = True,
        loss_weight: float = 0.1,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f'norm must be one of {NORMS}, not {norm!r}')
        self.iou_thr = iou_thr
        self.score_gap = score_gap
        self.include_self = include_self
        self.norm = norm
        self.detach_boxes = detach_boxes
        self.loss_weight = loss_weight

    def forward(self, deltas: Tensor, boxes: Tensor, confidence: Tensor, valid: Tensor) -> Tensor:
        """Loss of each image, (B,).

        Args:
            deltas (Tensor): Predicted offsets, B x N x P x 4, in the units of ``encode_deltas``.
            boxes (Tensor): What they are relative to, B x (N or 1) x P x 4 xyxy.
            confidence (Tensor): B x N x P; gradients do not pass.
            valid (Tensor): B x N x P bool, False = no such phrase or box.
        """
        boxes = boxes.expand(*confidence.shape, 4).float()
        boxes = boxes.detach() if self.detach_boxes else boxes
        confidence = confidence.detach().masked_fill(~valid, -1)
        best = confidence.argmax(-1, keepdim=True)
        teacher = boxes.gather(2, best[..., None].expand(-1, -1, -1, 4))
        with torch.no_grad():
            overlap = bbox_overlaps(teacher, boxes).squeeze(2)
            candidates = (overlap >= self.iou_thr) & (self.include_self | (overlap != 1)) & valid
            ahead = confidence.gather(2, best) - confidence >= self.score_gap
            ahead |= self.include_self & (overlap == 1)
        active = candidates & ahead
        # Other boxes get a target that exists, so that odd ones cannot spoil the gradient; their errors
        # are left out below.
        sources = torch.where(active[..., None], boxes, boxes.new_tensor([0.0, 0.0, 1.0, 1.0]))
        goals = torch.where(active[..., None], teacher, sources)
        errors = F.smooth_l1_loss(deltas.float(), encode_deltas(sources, goals), reduction='none')
        errors = (errors * active[..., None]).sum(-1)
        if self.norm == 'phrase_sum':
            loss = (errors.sum(2) / (4 * candidates.sum(2)).clamp(min=1)).sum(1)
        else:
            counted = candidates if self.norm == 'candidates' else active
            loss = errors.sum((1, 2)) / (4 * counted.sum((1, 2))).clamp(min=1)
        return self.loss_weight * loss
