from collections.abc import Callable
from dataclasses import replace
from functools import wraps

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from ...text import PredicateVocabulary
from ..layers import mean_field
from ..layers.mean_field import Beliefs, Potentials
from ..layers.tube_networks import PosteriorNet, PriorNet, RelationNet

BETA_MODES = ('likelihood', 'loss', 'fusion')


def in_float32(method: Callable) -> Callable:
    """Of half precision mean field's bound would fall; text and video may come in it."""

    @wraps(method)
    def run(self, text: dict[str, Tensor], video: dict[str, Tensor]) -> dict:
        text, video = (
            {k: v.float() if v.is_floating_point() else v for k, v in given.items()}
            for given in (text, video)
        )
        with torch.autocast(text['sentence'].device.type, enabled=False):
            return method(self, text, video)

    return run


@MODELS.register_module()
class VideoTubeHead(BaseModule):
    """Which tube each entity of a sentence is, and when: learned by variational EM (VCMA; spec vcma 1.5-1.7).

    Two networks answer. ``theta``: a prior on tubes and clips, and the likelihood of the sentence's
    relations given tubes and clips; together its posterior knows the relations. ``phi``: a posterior
    that sees no relation. Each learns from the other in turn: in the E-phase phi from what mean field
    makes of theta, in the M-phase theta from phi. A contrast of sentences and videos starts them.

    Args:
        text_dims, tube_dims, frame_dims (int): Widths of the vectors of texts, tubes and frames.
        predicates (str | list[str]): File of a :class:`PredicateVocabulary`, or its predicates, taken as
            equally frequent.
        embed_dims, relation_dims, num_heads (int): Widths and heads of the networks.
        beta (float): Weight of relations.
        beta_mode (str): ``'likelihood'``: beta is the exponent of the likelihood of relations.
            ``'loss'``: it only scales their loss in the M-phase. ``'fusion'``: it only weighs the two
            answers, log q + beta log p.
        tau (float): Temperature of similarities.
        sweeps (int): Sweeps of mean field while learning; ``test_sweeps`` while answering.
        e_start (str): Mean field starts from ``'phi'`` or the ``'prior'``.
        kl (str): phi minimises KL(q-hat | q) (``'forward'``) or maximises the bound itself
            (``'reverse'``, Eq. 2 and 3 of the supplement).
        m_source (str): theta learns from ``'phi'`` or from mean field's result (``'q_hat'``).
        mil_weight (float): Weight of the contrast in the E- and M-phases.
        same_tube (float): Log-likelihood of a relation between a tube and itself.
        same_tube_always (bool): Whether the event is on or off. Otherwise, as spec 1.3 has it, only while
            it is on: then a tube that may be both subject and object says that there is no event.
        tied (bool): An entity keeps its tube; otherwise one per clip, with ``tube_coupling``.
        temporal (str): Clips are ``'free'`` (with ``clip_coupling``), or the event is one
            contiguous ``'segment'``.
        event_share (float, optional): Posterior regularisation, ours: mean field keeps so many of the clips
            on, so that relations decide which ones. Without it all, or none, soon are.
        posterior_clip_tubes, own_motion (bool): See :class:`PosteriorNet` and :class:`RelationNet`.
        relation_context (int): ``context`` of :class:`RelationNet`.
    """

    def __init__(
        self,
        text_dims: int,
        tube_dims: int,
        frame_dims: int,
        predicates: str | list[str],
        embed_dims: int = 256,
        relation_dims: int = 128,
        num_heads: int = 4,
        beta: float = 1.0,
        beta_mode: str = 'likelihood',
        tau: float = 0.07,
        sweeps: int = 3,
        test_sweeps: int = 10,
        e_start: str = 'phi',
        kl: str = 'forward',
        m_source: str = 'phi',
        mil_weight: float = 1.0,
        same_tube: float = -10.0,
        same_tube_always: bool = False,
        tied: bool = True,
        tube_coupling: float = 0.0,
        temporal: str = 'free',
        clip_coupling: float = 0.0,
        event_share: float | None = None,
        posterior_clip_tubes: bool = False,
        own_motion: bool = False,
        relation_context: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value, known in (
            ('beta_mode', beta_mode, BETA_MODES),
            ('e_start', e_start, ('phi', 'prior')),
            ('kl', kl, ('forward', 'reverse')),
            ('m_source', m_source, ('phi', 'q_hat')),
            ('temporal', temporal, ('free', 'segment')),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {known}, not {value!r}')
        frequency = PredicateVocabulary.load(predicates).prior()
        if event_share is not None and clip_coupling:
            raise ValueError('event_share needs clip_coupling=0')
        shared = dict(embed_dims=embed_dims, num_heads=num_heads, tau=tau, tied=tied)
        self.prior = PriorNet(text_dims, tube_dims, frame_dims, **shared)
        self.relation = RelationNet(
            len(frequency), tube_dims, relation_dims, own_motion, relation_context
        )
        self.posterior = PosteriorNet(
            text_dims, tube_dims, frame_dims, **shared, clip_tubes=posterior_clip_tubes
        )
        self.register_buffer('log_pi0', torch.tensor(frequency).log().float(), persistent=False)
        self.beta = beta
        self.beta_mode = beta_mode
        # Set by VariationalEMHook while beta rises; a checkpoint answers as it did when it was rated.
        self.register_buffer('beta_scale', torch.ones(()))
        self.phase = 'warmup'
        self.tau = tau
        self.sweeps, self.test_sweeps, self.e_start = sweeps, test_sweeps, e_start
        self.kl, self.m_source, self.mil_weight = kl, m_source, mil_weight
        self.same_tube, self.same_tube_always = same_tube, same_tube_always
        self.tube_coupling, self.clip_coupling = tube_coupling, clip_coupling
        self.temporal, self.event_share = temporal, event_share

    # --- what the two networks say

    def potentials(self, text: dict[str, Tensor], video: dict[str, Tensor]) -> Potentials:
        """Log p_theta of latents and relations, for the tubes and clips of each sentence."""
        tubes, clips = self.prior(text, video)
        steps = clips.shape[1]
        present = video['clip_present'][text['video_index']]
        beta = self.beta * self.beta_scale if self.beta_mode == 'likelihood' else 1.0
        rho, pairs = self._relation_scores(text, video)
        return Potentials(
            tubes=tubes,
            clips=clips,
            rho=rho,
            pairs=pairs,
            log_pi0=self.log_pi0[text['predicate']] * text['relation_present'],
            subject=text['subject'],
            object=text['object'],
            entity_present=text['entity_present'],
            clip_present=present,
            weight=beta / present.sum(-1).to(clips),
            tube_coupling=self.tube_coupling,
            clip_coupling=self.clip_coupling,
            segments=self._segments(steps, clips.device),
            event_share=self.event_share,
        )

    def _relation_scores(self, text: dict, video: dict) -> tuple[Tensor, Tensor | None]:
        """Q x R x K x (K + 1) x T: log-likelihood of each relation's predicate; and ``pairs``."""
        scores, index = self.relation(video), text['video_index']
        rho = scores[index.unsqueeze(1).expand_as(text['predicate']), :, :, :, text['predicate']]
        there = video['tube_present'][index]
        several = (there.sum(-1) > 1)[:, None, None, None]
        there = there.unsqueeze(2) & F.pad(there, (0, 1), value=True).unsqueeze(1)
        there = there.unsqueeze(1) & text['relation_present'][..., None, None]
        same = torch.eye(*there.shape[2:], dtype=torch.bool, device=rho.device) & several & there
        pairs = None
        if self.same_tube_always:
            pairs = torch.where(same, self.same_tube, 0.0)
        else:
            rho = rho.masked_fill(same.unsqueeze(-1), self.same_tube)
        return rho.masked_fill(~there.unsqueeze(-1), 0), pairs

    def amortised(self, text: dict, video: dict, p: Potentials) -> tuple[Potentials, Beliefs]:
        """q_phi: its logits in place of the prior's, and its probabilities."""
        tubes, clips = self.posterior(text, video)
        free = dict(tube_coupling=0.0, clip_coupling=0.0, event_share=None)
        own = replace(p, tubes=tubes, clips=clips, **free)
        return own, mean_field.prior(own)

    def _segments(self, steps: int, device: torch.device) -> Tensor | None:
        return mean_field.all_segments(steps, device) if self.temporal == 'segment' else None

    # --- learning

    @in_float32
    def loss(self, text: dict[str, Tensor], video: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the current phase; only the network that learns in it gets gradients."""
        if self.phase == 'warmup':
            return dict(
                loss_mil_theta=self._contrast(self.prior.tubes, text, video),
                loss_mil_phi=self._contrast(self.posterior.tubes, text, video),
            )
        return self._e_loss(text, video) if self.phase == 'E' else self._m_loss(text, video)

    def _e_loss(self, text: dict, video: dict) -> dict[str, Tensor]:
        """phi learns what theta makes of the relations (spec 1.6)."""
        with torch.no_grad():
            p = self.potentials(text, video)
        own, q = self.amortised(text, video, p)
        q_hat = self._mean_field(p, q)
        if self.kl == 'reverse':
            loss = -mean_field.elbo(p, q)
        else:
            loss = -mean_field.entropy(p, q_hat) - sum(mean_field.expected_log_prior(own, q_hat))
        return dict(
            loss_e=loss.mean(),
            loss_mil_phi=self.mil_weight * self._contrast(self.posterior.tubes, text, video),
            **self._report(p, q_hat, text),
        )

    def _m_loss(self, text: dict, video: dict) -> dict[str, Tensor]:
        """theta learns from what phi (or mean field) believes (spec 1.7)."""
        p = self.potentials(text, video)
        with torch.no_grad():
            _, q = self.amortised(text, video, p)
            if self.m_source == 'q_hat':
                q = self._mean_field(p, q)
        tubes, clips = mean_field.expected_log_prior(p, q)
        beta = 1.0 if self.beta_mode == 'fusion' else self.beta * self.beta_scale
        weight = beta / p.clip_present.sum(-1).to(tubes)
        relations = mean_field.expected_log_relations(replace(p, weight=weight), q)
        return dict(
            loss_prior=-(tubes + clips).mean(),
            loss_relation=-relations.mean(),
            loss_mil_theta=self.mil_weight * self._contrast(self.prior.tubes, text, video),
            **self._report(p, q, text),
        )

    @torch.no_grad()
    def _mean_field(self, p: Potentials, q: Beliefs) -> Beliefs:
        start = q.detach() if self.e_start == 'phi' else None
        return mean_field.infer(p, start, self.sweeps)

    def _contrast(self, matcher: torch.nn.Module, text: dict, video: dict) -> Tensor:
        """Symmetric InfoNCE of sentences and videos; what may be true of both is no negative."""
        scores = matcher.agreement(text, video)[:, text['video_index']] / self.tau
        scores = scores.masked_fill(text['not_negative'], -torch.inf)
        labels = torch.arange(len(scores), device=scores.device)
        return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2

    @torch.no_grad()
    def _report(self, p: Potentials, q: Beliefs, text: dict) -> dict[str, Tensor]:
        """Bound, mean length of events, and by how much predicates beat their frequency."""
        clips = p.clip_present.sum().clamp(min=1)
        gain = mean_field.expected_relation(p, q.tubes) - p.log_pi0.unsqueeze(-1)
        weight = q.clips.unsqueeze(1) * text['relation_present'].unsqueeze(-1)
        return dict(
            elbo=mean_field.elbo(p, q).mean(),
            event_share=q.clips.sum() / clips,
            relation_gain=(gain * weight).sum() / weight.sum().clamp(min=1e-6),
        )

    # --- answers

    @torch.no_grad()
    @in_float32
    def predict(self, text: dict[str, Tensor], video: dict[str, Tensor]) -> dict[str, Beliefs]:
        """``p``, which knows the relations, and ``q``, which does not (supplement, Fig. 1)."""
        p = self.potentials(text, video)
        own, q = self.amortised(text, video, p)
        found = mean_field.infer(p, q if self.e_start == 'phi' else None, self.test_sweeps)
        if self.beta_mode == 'fusion':
            found = self._fuse(own, found)
        return dict(p=found, q=q)

    def _fuse(self, own: Potentials, found: Beliefs) -> Beliefs:
        """log q + beta log p, normalised (reading (c) of beta)."""
        beta = self.beta * self.beta_scale
        tubes = own.tubes.log_softmax(2) + beta * found.tubes.clamp(min=1e-30).log()
        odds = found.clips.clamp(1e-7, 1 - 1e-7).logit()
        return mean_field.prior(replace(own, tubes=tubes, clips=own.clips + beta * odds))
