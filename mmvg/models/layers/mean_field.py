"""Variational inference of tubes and times from relations (VCMA; spec vcma 1.5 and 1.6).

Latent are the tube of every entity, z_S, and for every clip whether the described event is on, z_T. For Q
sentences with up to E entities, R relations, K tubes and T clips::

    log p(Z)            chains over the fields ``tubes`` (Q x E x K x C) and ``clips`` (Q x 2 x T, row 1: on)
    log p(R | Z)^beta   (beta / T) sum_r sum_t  rho[r, z_subject, z_object, t]  if z_T,t = 1, else log_pi0[r];
                        in both cases plus pairs[r, z_subject, z_object]

C is 1 where an entity keeps its tube (default), or T. All in log space.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import potts_chain


@dataclass(frozen=True)
class Potentials:
    """What p says of the latents of Q sentences.

    Attributes:
        tubes: Q x E x K x C, logits of z_S; -inf where there is no tube.
        clips: Q x T, logits of z_T = 1.
        rho: Q x R x K x (K + 1) x T, log-likelihood of a relation's predicate for the tubes of its
            subject and object; the last one stands for no object. 0 where there is no relation.
        log_pi0: Q x R, log-likelihood while the event is off; 0 where there is no relation.
        subject, object: Q x R, indices of entities; an object of E is none.
        entity_present, clip_present: Q x E and Q x T bool.
        weight: Q, beta / T.
        tube_coupling, clip_coupling: Bonus for equal states of neighbouring clips.
        pairs: Q x R x K x (K + 1), or None: what holds of two tubes whether the event is on or off.
        segments: S x T of 0 and 1, or None: z_T is one of these patterns rather than free.
        event_share: Of its clips a sentence's q expects so many on, or None: no constraint.
    """

    tubes: Tensor
    clips: Tensor
    rho: Tensor
    log_pi0: Tensor
    subject: Tensor
    object: Tensor
    entity_present: Tensor
    clip_present: Tensor
    weight: Tensor
    tube_coupling: float = 0.0
    clip_coupling: float = 0.0
    pairs: Tensor | None = None
    segments: Tensor | None = None
    event_share: float | None = None

    @property
    def tube_mask(self) -> Tensor:
        """Q x E x 1 x C: which variables z_S there are."""
        mask = self.entity_present[:, :, None, None]
        if self.tubes.shape[-1] > 1:
            mask = mask & self.clip_present[:, None, None]
        return mask

    @property
    def clip_mask(self) -> Tensor:
        """Q x 1 x T."""
        return self.clip_present[:, None]


@dataclass(frozen=True)
class Beliefs:
    """A factorised q: ``tubes`` Q x E x K x C, ``clips`` Q x T (probability of on); 0 where absent.

    ``segments`` Q x S is the distribution over patterns that ``clips`` are the marginals of.
    """

    tubes: Tensor
    clips: Tensor
    segments: Tensor | None = None

    def detach(self) -> 'Beliefs':
        segments = None if self.segments is None else self.segments.detach()
        return Beliefs(self.tubes.detach(), self.clips.detach(), segments)


def prior(p: Potentials) -> Beliefs:
    """q that ignores relations (and couplings)."""
    tubes = p.tubes.softmax(2) * p.tube_mask
    return _with_clips(p, tubes, p.clips)


def infer(p: Potentials, start: Beliefs | None = None, sweeps: int = 3) -> Beliefs:
    """Mean field: ``sweeps`` rounds of coordinate ascent of the ELBO, which never falls (Eq. 1)."""
    q, roles = start or prior(p), _roles(p)
    for _ in range(sweeps):
        q = _with_clips(p, *_sweep(p, q, roles))
    return q


def _roles(p: Potentials) -> list[tuple[Tensor, Tensor]]:
    """Per entity the relations (of Q * R) that it is subject, and those that it is object of.

    Found once, as the host of a GPU waits for all work there to learn how many there are.
    """
    ends = torch.stack([p.subject.flatten(), p.object.flatten()])
    entities = torch.arange(p.tubes.shape[1], device=ends.device)
    counts = (ends.unsqueeze(-1) == entities).sum(1).tolist()
    order = ends.argsort(dim=1, stable=True)
    of_subjects, of_objects = (row[: sum(n)].split(n) for row, n in zip(order, counts, strict=True))
    return list(zip(of_subjects, of_objects, strict=True))


def _sweep(p: Potentials, q: Beliefs, roles: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Entities in their order, each given the newest others; then the clips."""
    tubes = q.tubes
    by_pair = _over_time(p, q.clips)
    for entity, role in enumerate(roles):
        field = p.tubes[:, entity] + _message(p, tubes, by_pair, role)
        renewed = potts_chain.update(
            tubes[:, entity], field, p.tube_mask[:, entity], p.tube_coupling
        )
        tubes = torch.cat([tubes[:, :entity], renewed.unsqueeze(1), tubes[:, entity + 1 :]], 1)
    gain = (expected_relation(p, tubes) - p.log_pi0.unsqueeze(-1)).sum(1)
    field = p.clips + p.weight.unsqueeze(-1) * gain
    if p.clip_coupling and p.segments is None:
        on = torch.stack([torch.zeros_like(field), field], 1)
        states = torch.stack([1 - q.clips, q.clips], 1) * p.clip_mask
        states = potts_chain.update(states, on, p.clip_mask, p.clip_coupling)
        field = (states[:, 1] / states[:, 0].clamp(min=1e-30)).clamp(min=1e-30).log()
    return tubes, field


def _with_clips(p: Potentials, tubes: Tensor, field: Tensor) -> Beliefs:
    if p.event_share is not None:
        field = field + _multiplier(p, field)
    return Beliefs(tubes, *_clips(p, field))


def _clips(p: Potentials, field: Tensor) -> tuple[Tensor, Tensor | None]:
    """Q x T probabilities of on and, if z_T is a segment, Q x S of each."""
    if p.segments is None:
        return field.sigmoid() * p.clip_present, None
    segments = segment_logits(p, field).softmax(-1)
    return segments @ p.segments, segments


def _multiplier(p: Potentials, field: Tensor) -> Tensor:
    """Q x 1, what added to the field makes ``event_share`` of the clips on: a Lagrange multiplier.

    Segments have one clip at least, so of few clips there may be more on.
    """
    wanted = p.event_share * p.clip_present.sum(-1, keepdim=True)
    # Far enough that the longest or shortest outcome is nearly sure, whatever the field says.
    spread = field.masked_fill(~p.clip_present, 0).abs().sum(-1, keepdim=True)
    high = 2 * spread + math.log(1e6)
    low = -high
    for _ in range(40):
        middle = (low + high) / 2
        on = _clips(p, field + middle)[0].sum(-1, keepdim=True)
        low, high = torch.where(on > wanted, low, middle), torch.where(on > wanted, middle, high)
    return (low + high) / 2


def segment_logits(p: Potentials, field: Tensor) -> Tensor:
    """Q x S, the sum of a field over the clips of each pattern; -inf where it needs absent clips."""
    absent = (~p.clip_present).to(field.dtype) @ p.segments.T > 0
    return (field.masked_fill(~p.clip_present, 0) @ p.segments.T).masked_fill(absent, -torch.inf)


def _over_time(p: Potentials, clips: Tensor) -> Tensor:
    """Q x R x K x (K + 1) x C: what speaks for each pair of tubes."""
    weight = p.weight.unsqueeze(-1)
    gain = p.rho * (clips * weight)[:, None, None, None]
    if p.pairs is not None:
        gain = gain + p.pairs.unsqueeze(-1) * (p.clip_present * weight)[:, None, None, None]
    return gain.sum(-1, keepdim=True) if p.tubes.shape[-1] == 1 else gain


def _message(p: Potentials, tubes: Tensor, by_pair: Tensor, role: tuple[Tensor, Tensor]) -> Tensor:
    """Q x K x C: evidence for the tubes of one entity from all relations that it is part of.

    Only theirs is computed, so that a sweep visits every relation twice, whatever the entities.
    """
    (sentences, relations), by_pair = by_pair.shape[:2], by_pair.flatten(0, 1)
    messages = by_pair.new_zeros(*by_pair.shape[:2], by_pair.shape[-1])
    of_object, of_subject = _objects(p, tubes).flatten(0, 1), _subjects(p, tubes).flatten(0, 1)
    own, others = role
    messages[own] = torch.einsum('nklc,nlc->nkc', by_pair[own], of_object[own])
    messages[others] += torch.einsum('nklc,nkc->nlc', by_pair[others], of_subject[others])[:, :-1]
    return messages.unflatten(0, (sentences, relations)).sum(1)


def _subjects(p: Potentials, tubes: Tensor) -> Tensor:
    """Q x R x K x C."""
    index = p.subject[:, :, None, None].expand(-1, -1, *tubes.shape[2:])
    return tubes.gather(1, index)


def _objects(p: Potentials, tubes: Tensor) -> Tensor:
    """Q x R x (K + 1) x C; that of a relation without object is certain to be the last."""
    count, _, width, clips = tubes.shape
    nothing = tubes.new_zeros(count, 1, width + 1, clips)
    nothing[:, :, -1] = 1
    known = torch.cat([tubes, tubes.new_zeros(count, tubes.shape[1], 1, clips)], 2)
    index = p.object[:, :, None, None].expand(-1, -1, width + 1, clips)
    return torch.cat([known, nothing], 1).gather(1, index)


def expected_relation(p: Potentials, tubes: Tensor) -> Tensor:
    """Q x R x T: E_q of rho over the tubes of subject and object."""
    return _over_pairs(p, tubes, p.rho)


def _over_pairs(p: Potentials, tubes: Tensor, values: Tensor) -> Tensor:
    """Q x R x K x (K + 1) x T -> Q x R x T, the mean under q; all of T alike may be given once."""
    subjects, objects = _subjects(p, tubes), _objects(p, tubes)
    if tubes.shape[-1] == 1:
        both = (subjects.unsqueeze(3) * objects.unsqueeze(2)).squeeze(-1)
        return torch.einsum('qrklt,qrkl->qrt', values, both)
    values = values.expand(*values.shape[:-1], tubes.shape[-1])
    return torch.einsum('qrklt,qrkt,qrlt->qrt', values, subjects, objects)


def expected_log_prior(p: Potentials, q: Beliefs) -> tuple[Tensor, Tensor]:
    """E_q of log p(z_S) and of log p(z_T), Q each; gradients of Eq. 1.7 of the spec."""
    shape = p.tube_mask
    tubes = potts_chain.expected_energy(q.tubes, p.tubes, p.tube_coupling)
    # Absent entities have a field like any other, but no variable.
    tubes = tubes - potts_chain.log_partition(p.tubes, shape, p.tube_coupling)
    tubes = (tubes * p.entity_present).sum(1)
    if p.segments is not None:
        logits = segment_logits(p, p.clips)
        mean = potts_chain.expected_energy(q.segments.unsqueeze(-1), logits.unsqueeze(-1))
        return tubes, mean - logits.logsumexp(-1)
    field = torch.stack([torch.zeros_like(p.clips), p.clips], 1)
    states = torch.stack([1 - q.clips, q.clips], 1) * p.clip_mask
    clips = potts_chain.expected_energy(states, field, p.clip_coupling)
    return tubes, clips - potts_chain.log_partition(field, p.clip_mask, p.clip_coupling)


def expected_log_relations(p: Potentials, q: Beliefs) -> Tensor:
    """beta * E_q of log p(R | Z), Q."""
    on = expected_relation(p, q.tubes)
    clips = q.clips.unsqueeze(1)
    off = (p.clip_present.unsqueeze(1).to(clips) - clips) * p.log_pi0.unsqueeze(-1)
    total = clips * on + off
    if p.pairs is not None:
        always = _over_pairs(p, q.tubes, p.pairs.unsqueeze(-1))
        total = total + always * p.clip_present.unsqueeze(1)
    return p.weight * total.sum((1, 2))


def entropy(p: Potentials, q: Beliefs) -> Tensor:
    """Of all latents under q, Q."""
    tubes = potts_chain.entropy(q.tubes).sum(1)
    if q.segments is not None:
        return tubes + potts_chain.entropy(q.segments.unsqueeze(-1))
    states = torch.stack([1 - q.clips, q.clips], 1) * p.clip_mask
    return tubes + potts_chain.entropy(states)


def elbo(p: Potentials, q: Beliefs) -> Tensor:
    """The lower bound O(q) of log p(R), Q (Eq. 2 and 3)."""
    return sum(expected_log_prior(p, q)) + entropy(p, q) + expected_log_relations(p, q)


def all_segments(clips: int, device: torch.device | None = None) -> Tensor:
    """T (T + 1) / 2 x T: every contiguous run of clips."""
    steps = torch.arange(clips, device=device)
    first, last = torch.triu_indices(clips, clips, device=device)
    return ((steps >= first[:, None]) & (steps <= last[:, None])).float()
