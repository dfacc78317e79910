import torch
from torch import Tensor

_EPSILON = 1e-6


def masked_softmax(
    logits: Tensor, mask: Tensor, present: Tensor | None = None, max_over: str = 'valid'
) -> Tensor:
    """Softmax over the last dimension of entries that ``mask`` keeps (ReIR; spec 2.4).

    A row without any is all zeros. The sum has an epsilon, as in the released code.

    Args:
        logits (Tensor): ... x M.
        mask (Tensor): ... x M bool, True = takes part.
        present (Tensor, optional): ... x M bool, False = an empty slot of the batch, for ``'zero_filled'``.
        max_over (str): What is subtracted before exponentiation: ``'valid'``, the largest logit that
            takes part; ``'zero_filled'``, as the released code does, the largest when the masked
            ones count as 0, with which attention vanishes where all logits are far below 0 (spec 8.3).

    Returns:
        Tensor: ... x M, rows that sum to nearly 1, or to 0.
    """
    if max_over == 'valid':
        top = logits.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
        top = top.masked_fill(top == -torch.inf, 0.0)
    elif max_over == 'zero_filled':
        filled = logits.masked_fill(~mask, 0.0)
        if present is not None:  # an image alone in its batch has no empty slots
            filled = filled.masked_fill(~present, -torch.inf)
        top = filled.amax(-1, keepdim=True)
        top = top.masked_fill(top == -torch.inf, 0.0)
    else:
        raise ValueError(f"max_over must be 'valid' or 'zero_filled', not {max_over!r}")
    # Masked entries first: their exponential may overflow and would turn gradients into NaN.
    exponentials = (logits - top).masked_fill(~mask, -torch.inf).exp()
    return exponentials / (exponentials.sum(-1, keepdim=True) + _EPSILON)
