"""Chains of categorical variables with a coupling between neighbours in time (spec vcma 1.5).

A chain of C variables with S states has log p(z) = sum_t f[z_t, t] + c * sum_t 1[z_t = z_t+1] - log Z.
C = 1, or c = 0, makes the variables independent. Tensors are ... x S x C; ``present``, ... x 1 x C
bool, says which variables there are (they come first).
"""

import torch
from torch import Tensor


def log_partition(field: Tensor, present: Tensor, coupling: float = 0.0) -> Tensor:
    """log Z by the forward recursion, shape ...; differentiable."""
    if not coupling:
        return (field.logsumexp(-2) * present.squeeze(-2)).sum(-1)
    states = field.shape[-2]
    step = coupling * torch.eye(states, dtype=field.dtype, device=field.device)
    forward = field[..., 0]
    for t in range(1, field.shape[-1]):
        moved = (forward.unsqueeze(-1) + step).logsumexp(-2) + field[..., t]
        forward = torch.where(present[..., t], moved, forward)
    return forward.logsumexp(-1) * present[..., 0, 0]


def update(q: Tensor, field: Tensor, present: Tensor, coupling: float = 0.0) -> Tensor:
    """One sweep of mean field: every q[:, t] given its neighbours; never lowers the ELBO.

    With a coupling even variables are renewed before odd ones, so that no two neighbours change at
    the same time.
    """
    if not coupling or q.shape[-1] == 1:
        return field.softmax(-2) * present
    for parity in (0, 1):
        turn = torch.arange(q.shape[-1], device=q.device) % 2 == parity
        renewed = (field + coupling * _neighbours(q)).softmax(-2) * present
        q = torch.where(turn, renewed, q)
    return q


def expected_energy(q: Tensor, field: Tensor, coupling: float = 0.0) -> Tensor:
    """E_q of sum_t f[z_t, t] + c * sum_t 1[z_t = z_t+1], shape ...; states of q = 0 may have f = -inf."""
    energy = torch.where(q > 0, q * field.masked_fill(q == 0, 0), 0).sum((-2, -1))
    if coupling:
        energy = energy + coupling * (q[..., 1:] * q[..., :-1]).sum((-2, -1))
    return energy


def entropy(q: Tensor) -> Tensor:
    """Entropy of a factorised q, shape ... ."""
    q = torch.where(q > 0, q, 1)  # 0 log 0 = 0, with a gradient of 0
    return -(q * q.log()).sum((-2, -1))


def _neighbours(q: Tensor) -> Tensor:
    """q of the variable before plus q of the one after."""
    total = torch.zeros_like(q)
    total[..., 1:] += q[..., :-1]
    total[..., :-1] += q[..., 1:]
    return total
