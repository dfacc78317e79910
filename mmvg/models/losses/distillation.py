"""Losses between the token of a student and the embedding of a teacher (EpmVG, Eq. 5-7; spec 3)."""

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

POOL_SIDES = ('teacher', 'student', 'min')
# Unit vectors closer than this are one vector: the same picture or text twice in a batch.
_SAME = 1e-6
_ZERO = 1e-8  # a shorter vector has no direction


def match_width(
    student: Tensor, target: Tensor, pool_side: str = 'teacher'
) -> tuple[Tensor, Tensor]:
    """Bring both sides to one width by adaptive average pooling over channels (Eq. 5 and 6).

    Output channel i of D is the mean of input channels floor(i d / D) up to ceil((i + 1) d / D):
    bins of d / D neighbours where D divides d, overlapping ones otherwise (spec 3.2, A4).

    Args:
        student (Tensor): Q x D.
        target (Tensor): Q x d.
        pool_side (str): Which side changes: ``'teacher'`` as in the paper, also where that makes it
            wider; ``'student'``; or ``'min'``, the wider one.

    Returns:
        tuple: Both Q x D, Q x d or Q x min(D, d).
    """
    widths = {
        'teacher': student.shape[-1],
        'student': target.shape[-1],
        'min': min(student.shape[-1], target.shape[-1]),
    }
    width = widths[pool_side]
    return _pool(student, width), _pool(target, width)


def _pool(x: Tensor, width: int) -> Tensor:
    return x if x.shape[-1] == width else F.adaptive_avg_pool1d(x, width)


def _directions(x: Tensor) -> Tensor:
    """Rows of unit length; a zero vector becomes zero and gets no gradient."""
    norm = x.norm(dim=-1, keepdim=True)
    return torch.where(norm > _ZERO, x / norm.clamp(min=_ZERO), torch.zeros_like(x))


class _DistillLoss(nn.Module):
    """What the losses share; a subclass rates every pair of rows in ``_rate``.

    Gradients reach the target, too, unless the teacher is frozen (spec 3.2, A15). All is computed
    in float32.

    Args:
        loss_weight (float): Factor, e.g. alpha or beta of Eq. 7.
        pool_side (str): See :func:`match_width`.
    """

    def __init__(self, loss_weight: float = 1.0, pool_side: str = 'teacher') -> None:
        super().__init__()
        if pool_side not in POOL_SIDES:
            raise ValueError(f'pool_side must be one of {POOL_SIDES}, not {pool_side!r}')
        self.loss_weight = loss_weight
        self.pool_side = pool_side

    def forward(
        self, student: Tensor, target: Tensor, avg_factor: Tensor | float | None = None
    ) -> Tensor:
        """Weighted mean over the rows.

        Args:
            student (Tensor): Q x D, row i distilled from row i of ``target``.
            target (Tensor): Q x d.
            avg_factor (Tensor | float, optional): What the sum over rows is divided by; default Q.

        Returns:
            Tensor: Scalar, float32.

        Raises:
            ValueError: If the sides differ in rows or are no matrices.
        """
        if student.dim() != 2 or target.dim() != 2 or len(student) != len(target):
            raise ValueError(
                f'student {tuple(student.shape)} and target {tuple(target.shape)} must be matrices '
                'with as many rows: one token and one embedding per query'
            )
        with torch.autocast(student.device.type, enabled=False):
            rated = self._rate(*match_width(student.float(), target.float(), self.pool_side))
        return self.loss_weight * rated.sum() / (len(rated) if avg_factor is None else avg_factor)

    def _rate(self, student: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


@MODELS.register_module()
class CosineDistillLoss(_DistillLoss):
    """1 - cos of token and pooled embedding, the cosine loss of Eq. 7 (spec 3.2, A7 i).

    The lengths of both sides do not matter. Arguments: see :class:`_DistillLoss`.
    """

    def _rate(self, student: Tensor, target: Tensor) -> Tensor:
        return 1 - (_directions(student) * _directions(target)).sum(-1)


@MODELS.register_module()
class L1DistillLoss(_DistillLoss):
    """Mean absolute difference over the channels (Table 3, row 2; spec 3.2, A8).

    Args:
        normalize (bool): Compare directions. Lengths are not comparable: the last norm of a
            post-norm fusion gives tokens the length sqrt(D) at first, CLIP's embeddings have 1.
        Others: see :class:`_DistillLoss`.
    """

    def __init__(self, normalize: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.normalize = normalize

    def _rate(self, student: Tensor, target: Tensor) -> Tensor:
        if self.normalize:
            student, target = _directions(student), _directions(target)
        return (student - target).abs().mean(-1)


@MODELS.register_module()
class LargeMarginDistillLoss(_DistillLoss):
    """Large margin cosine loss over the batch (CosFace, which EpmVG cites; spec 3.2, A7 iv).

    Cross entropy of ``scale * (cos(student i, target j) - margin [i = j])`` over the targets j of
    the batch, of which i is right. The batch is that of the process: those of other processes are
    no negatives. Nor are targets equal to target i, such as those of one picture with several
    queries.

    Args:
        scale (float): s of CosFace.
        margin (float): m of CosFace.
        Others: see :class:`_DistillLoss`.
    """

    def __init__(self, scale: float = 30.0, margin: float = 0.35, **kwargs) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.margin = margin

    def _rate(self, student: Tensor, target: Tensor) -> Tensor:
        target = _directions(target)
        own = torch.eye(len(target), dtype=torch.bool, device=target.device)
        same = (target @ target.T > 1 - _SAME) & ~own
        cosines = _directions(student) @ target.T - self.margin * own
        logits = (self.scale * cosines).masked_fill(same, -torch.inf)
        return F.cross_entropy(
            logits, torch.arange(len(target), device=target.device), reduction='none'
        )
