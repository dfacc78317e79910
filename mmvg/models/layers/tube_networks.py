"""Networks of VCMA: what phrases, sentences and pairs of tubes say of the latents (spec vcma 1.5, 1.6).

``video`` is a dict of B videos with K tubes and T clips: ``tube_feats`` B x K x T x D, ``tube_boxes``
B x K x T x 4 (xyxy, in units of the frame), ``tube_present`` B x K, ``frame_feats`` B x T x D',
``clip_present`` B x T. ``text`` is one of Q sentences with up to E entities: ``entities`` Q x E x C',
``entity_present`` Q x E, ``sentence`` Q x C', ``target`` Q, ``video_index`` Q.
"""

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

RELATIVE = 7  # offset, sizes, overlap, relative motion
OWN_MOTION = 5  # of either tube, and how fast they part


class TubeMatcher(BaseModule):
    """Cosine similarity of phrases and tubes over a temperature: logits of z_S.

    Args:
        tied (bool): An entity keeps its tube; otherwise there are logits per clip.
    """

    def __init__(
        self, text_dims: int, tube_dims: int, embed_dims: int, tau: float, tied: bool
    ) -> None:
        super().__init__()
        self.phrase = nn.Linear(text_dims, embed_dims)
        self.tube = nn.Linear(tube_dims, embed_dims)
        self.tau = tau
        self.tied = tied

    def embed_tubes(self, video: dict[str, Tensor]) -> Tensor:
        """B x K x C x D, C = 1 or T."""
        return self.embed_whole(video).unsqueeze(2) if self.tied else self.tube(video['tube_feats'])

    def embed_whole(self, video: dict[str, Tensor]) -> Tensor:
        """B x K x D, the mean over the clips that there are."""
        feats = video['tube_feats']
        counted = video['clip_present'][:, None, :, None].to(feats)
        return self.tube((feats * counted).sum(2) / counted.sum(2).clamp(1))

    def compare(self, phrases: Tensor, tubes: Tensor, text: dict, video: dict) -> Tensor:
        """Q x E x D and B x K x C x D -> Q x E x K x C logits, -inf for absent tubes."""
        index = text['video_index']
        tubes = F.normalize(tubes, dim=-1)[index]
        logits = torch.einsum('qed,qkcd->qekc', F.normalize(phrases, dim=-1), tubes) / self.tau
        absent = ~video['tube_present'][index]
        return logits.float().masked_fill(absent[:, None, :, None], -torch.inf)

    def forward(self, text: dict, video: dict) -> Tensor:
        """Logits Q x E x K x C."""
        return self.compare(self.phrase(text['entities']), self.embed_tubes(video), text, video)

    def agreement(self, text: dict, video: dict) -> Tensor:
        """Q x B: how well each sentence's phrases find their tubes in each video (spec 1.7)."""
        phrases = F.normalize(self.phrase(text['entities']), dim=-1)
        tubes = F.normalize(self.embed_whole(video), dim=-1)
        cosine = torch.einsum('qed,bkd->qebk', phrases, tubes).float() / self.tau
        cosine = cosine.masked_fill(~video['tube_present'], -torch.inf)
        counts = video['tube_present'].sum(-1).clamp(min=1).log()
        best = self.tau * (cosine.logsumexp(-1) - counts)
        present = text['entity_present'].unsqueeze(-1).to(best)
        return (best * present).sum(1) / present.sum(1).clamp(min=1)


class ClipMatcher(BaseModule):
    """Logits of z_T: an MLP on [sentence; clip], clips in the context of a one-layer transformer."""

    def __init__(self, text_dims: int, clip_dims: int, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.clip = nn.Linear(clip_dims, embed_dims)
        self.context = nn.TransformerEncoderLayer(
            embed_dims, num_heads, 2 * embed_dims, dropout=0.0, batch_first=True, norm_first=True
        )
        self.sentence = nn.Linear(text_dims, embed_dims)
        self.out = nn.Sequential(
            nn.Linear(2 * embed_dims, embed_dims), nn.ReLU(), nn.Linear(embed_dims, 1)
        )

    def forward(self, clips: Tensor, present: Tensor, sentence: Tensor, index: Tensor) -> Tensor:
        """B x T x D' and Q x C' -> Q x T; ``index`` says which of the B belongs to each sentence."""
        tokens = self.clip(clips)
        tokens = tokens + _positions(tokens)
        tokens = self.context(tokens, src_key_padding_mask=~present)[index]
        sentence = self.sentence(sentence).unsqueeze(1).expand(-1, tokens.shape[1], -1)
        return self.out(torch.cat([sentence, tokens], -1)).squeeze(-1).float()


class PriorNet(BaseModule):
    """p_theta(Z | E, V): phrases meet tubes, the sentence meets clips."""

    def __init__(
        self,
        text_dims: int,
        tube_dims: int,
        frame_dims: int,
        embed_dims: int = 256,
        num_heads: int = 4,
        tau: float = 0.07,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.tubes = TubeMatcher(text_dims, tube_dims, embed_dims, tau, tied)
        self.clips = ClipMatcher(text_dims, frame_dims, embed_dims, num_heads)

    def forward(self, text: dict, video: dict) -> tuple[Tensor, Tensor]:
        """Logits Q x E x K x C and Q x T."""
        clips = self.clips(
            video['frame_feats'], video['clip_present'], text['sentence'], text['video_index']
        )
        return self.tubes(text, video), clips


class PosteriorNet(BaseModule):
    """q_phi(Z | E, V), which sees no relation: cross-attention of phrases to tubes, then as the prior.

    Args:
        clip_tubes (bool): A clip also shows the tubes that the entities are likely to be, so that
            motion can tell when the event is on. Ours; the method names frame features only.
    """

    def __init__(
        self,
        text_dims: int,
        tube_dims: int,
        frame_dims: int,
        embed_dims: int = 256,
        num_heads: int = 4,
        tau: float = 0.07,
        tied: bool = True,
        clip_tubes: bool = False,
    ) -> None:
        super().__init__()
        self.tubes = TubeMatcher(text_dims, tube_dims, embed_dims, tau, tied)
        self.attention = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)
        self.clip_tubes = clip_tubes
        clip_dims = frame_dims + 2 * tube_dims * clip_tubes
        self.clips = ClipMatcher(text_dims, clip_dims, embed_dims, num_heads)

    def forward(self, text: dict, video: dict) -> tuple[Tensor, Tensor]:
        """Logits Q x E x K x C and Q x T."""
        index = text['video_index']
        tubes, phrases = self.tubes.embed_tubes(video), self.tubes.phrase(text['entities'])
        whole = tubes.squeeze(2) if self.tubes.tied else self.tubes.embed_whole(video)
        keys, absent = whole[index], ~video['tube_present'][index]
        context, _ = self.attention(phrases, keys, keys, absent, need_weights=False)
        logits = self.tubes.compare(phrases + context, tubes, text, video)
        clips, present = video['frame_feats'], video['clip_present']
        if not self.clip_tubes:
            return logits, self.clips(clips, present, text['sentence'], index)
        clips = torch.cat([clips[index], _likely_tubes(logits, text, video)], -1)
        rows = torch.arange(len(index), device=index.device)
        return logits, self.clips(clips, present[index], text['sentence'], rows)


class RelationNet(BaseModule):
    """log pi(predicate | subject tube, object tube, clip), of all pairs of tubes of a video.

    An MLP on [subject; object; subject * object; geometry], its first layer split so that pairs cost
    no more than their sum.

    Args:
        own_motion (bool): Geometry also tells how either tube moves, and how fast they part. Ours; the
            spec's relative motion is the same whether both move or neither.
        context (int): Geometry is also that of so many clips before and after. Ours.
    """

    def __init__(
        self,
        num_predicates: int,
        tube_dims: int,
        hidden_dims: int = 128,
        own_motion: bool = False,
        context: int = 0,
    ) -> None:
        super().__init__()
        self.own_motion = own_motion
        self.context = context
        self.subject = nn.Linear(tube_dims, hidden_dims)
        self.object = nn.Linear(tube_dims, hidden_dims, bias=False)
        self.shared = nn.Linear(tube_dims, hidden_dims)
        self.product = nn.Linear(hidden_dims, hidden_dims, bias=False)
        geometry_dims = (RELATIVE + OWN_MOTION * own_motion) * (2 * context + 1)
        self.geometry = nn.Linear(geometry_dims, hidden_dims, bias=False)
        self.nothing = nn.Parameter(torch.zeros(tube_dims))
        self.out = nn.Sequential(
            nn.ReLU(),
            nn.Linear(hidden_dims, hidden_dims),
            nn.ReLU(),
            nn.Linear(hidden_dims, num_predicates),
        )

    def forward(self, video: dict) -> Tensor:
        """B x K x (K + 1) x T x P; the last object is none."""
        feats = video['tube_feats']
        nothing = self.nothing.expand(len(feats), 1, feats.shape[2], -1)
        objects = torch.cat([feats, nothing], 1)
        shared = self.shared(objects)
        hidden = self.subject(feats).unsqueeze(2) + self.object(objects).unsqueeze(1)
        hidden = hidden + self.product(shared[:, :-1].unsqueeze(2) * shared.unsqueeze(1))
        geometry = self._geometry(video['tube_boxes'], video['clip_present'].sum(-1))
        hidden = hidden + F.pad(self.geometry(geometry), (0, 0, 0, 0, 0, 1))
        return self.out(hidden).float().log_softmax(-1)

    def _geometry(self, boxes: Tensor, counts: Tensor) -> Tensor:
        """B x K x K x T x D, that of neighbouring clips beside it."""
        found = pair_geometry(boxes, self.own_motion, counts)
        if not self.context:
            return found
        pairs, around = found.flatten(1, 2), range(-self.context, self.context + 1)
        near = [_at(pairs, _clips_beside(boxes, counts, offset)) for offset in around]
        return torch.cat(near, -1).unflatten(1, found.shape[1:3])


def pair_geometry(boxes: Tensor, own_motion: bool = False, counts: Tensor | None = None) -> Tensor:
    """B x K x T x 4 -> B x K x K x T x 7: how tube l lies and moves as seen from tube k.

    Offset of the centres and logarithm of the ratio of sizes, in units of k; IoU; relative motion per
    clip in units of k. With ``own_motion`` 5 more: motion of k, motion of l, speed at which they part.
    ``counts`` (B) are the clips that each video has, where they are not T.
    """
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    sizes = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-4)
    before, after = (_clips_beside(boxes, counts, offset) for offset in (-1, 1))
    passed = (after - before).clamp(min=1)[:, None, :, None]
    motion = (_at(centres, after) - _at(centres, before)) / passed
    k, l = (slice(None), slice(None), None), (slice(None), None)  # noqa: E741
    unit = sizes[k]
    offset, relative = (centres[l] - centres[k]) / unit, (motion[l] - motion[k]) / unit
    ratio = (sizes[l] / unit).log()
    low = torch.maximum(boxes[k][..., :2], boxes[l][..., :2])
    high = torch.minimum(boxes[k][..., 2:], boxes[l][..., 2:])
    shared = (high - low).clamp(min=0).prod(-1, keepdim=True)
    union = unit.prod(-1, keepdim=True) + sizes[l].prod(-1, keepdim=True) - shared
    parts = [offset, ratio, shared / union, relative]
    if own_motion:
        direction = F.normalize(offset, dim=-1)
        parting = (relative * direction).sum(-1, keepdim=True)
        parts += [(motion[k] / unit).expand_as(offset), motion[l] / unit, parting]
    return torch.cat(parts, -1)


def _clips_beside(boxes: Tensor, counts: Tensor | None, offset: int) -> Tensor:
    """B x T: the clip so many after (or before) each one; at the ends of the video, its end."""
    count, _, steps = boxes.shape[:3]
    last = steps - 1 if counts is None else counts.clamp(min=1)[:, None] - 1
    clips = torch.arange(steps, device=boxes.device) + offset
    return clips.expand(count, -1).clamp(min=0).minimum(torch.as_tensor(last, device=boxes.device))


def _at(values: Tensor, clips: Tensor) -> Tensor:
    """B x N x T x D of T, and B x T numbers of clips -> what there is in those."""
    index = clips[:, None, :, None].expand(-1, values.shape[1], -1, values.shape[3])
    return values.gather(2, index)


def _likely_tubes(logits: Tensor, text: dict, video: dict) -> Tensor:
    """Q x T x 2D: expected features of the target's tube and, mean, of the other entities'."""
    likely = logits.detach().softmax(2)
    feats = video['tube_feats'][text['video_index']]
    if likely.shape[-1] == 1:
        found = torch.einsum('qek,qktd->qetd', likely.squeeze(-1), feats)
    else:
        found = torch.einsum('qekt,qktd->qetd', likely, feats)
    entities = torch.arange(found.shape[1], device=found.device)
    is_target = (entities == text['target'][:, None])[..., None, None]
    others = text['entity_present'][..., None, None] & ~is_target
    rest = (found * others).sum(1) / others.sum(1).clamp(min=1)
    return torch.cat([(found * is_target).sum(1), rest], -1)


def _positions(tokens: Tensor) -> Tensor:
    """Sine and cosine of the place of each of T clips, T x D."""
    steps, width = tokens.shape[-2:]
    scale = torch.exp(
        torch.arange(0, width, 2, device=tokens.device) * (-math.log(10000.0) / width)
    )
    angles = torch.arange(steps, device=tokens.device)[:, None] * scale
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width].to(tokens)
