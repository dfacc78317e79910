"""Phases, gradients and switches of VCMA's head (spec vcma 1.5-1.7, 5 items 4 and 5)."""

from dataclasses import replace

import pytest
import torch
from mmdet.registry import MODELS
from torch.testing import assert_close

import mmvg  # noqa: F401
from mmvg.models.layers import mean_field
from mmvg.models.layers.tube_networks import RelationNet, pair_geometry

TEXT, TUBE, FRAME = 6, 13, 8


def build(**settings):
    torch.manual_seed(0)
    cfg = dict(
        type='VideoTubeHead',
        text_dims=TEXT,
        tube_dims=TUBE,
        frame_dims=FRAME,
        predicates=['hold', 'chase', 'above'],
        embed_dims=16,
        relation_dims=12,
        num_heads=2,
    )
    return MODELS.build(dict(cfg, **settings))


@pytest.fixture
def batch():
    """Two videos (4 tubes and 5 clips; 3 and 4), three sentences with up to 3 entities, 2 relations."""
    g = torch.Generator().manual_seed(1)

    def rand(*shape):
        return torch.randn(*shape, generator=g)

    corner = torch.rand(2, 4, 5, 2, generator=g) * 0.6
    video = dict(
        tube_feats=rand(2, 4, 5, TUBE),
        tube_boxes=torch.cat([corner, corner + 0.3], -1),
        tube_present=torch.tensor([[True] * 4, [True, True, True, False]]),
        frame_feats=rand(2, 5, FRAME),
        clip_present=torch.tensor([[True] * 5, [True] * 4 + [False]]),
    )
    text = dict(
        entities=rand(3, 3, TEXT),
        entity_present=torch.tensor([[True] * 3, [True, True, False], [True, False, False]]),
        sentence=rand(3, TEXT),
        subject=torch.tensor([[0, 1], [0, 0], [0, 0]]),
        predicate=torch.tensor([[1, 2], [3, 0], [2, 0]]),
        object=torch.tensor([[1, 2], [1, 3], [3, 3]]),
        relation_present=torch.tensor([[True, True], [True, False], [True, False]]),
        target=torch.tensor([0, 1, 0]),
        video_index=torch.tensor([0, 0, 1]),
        not_negative=torch.tensor(
            [[False, True, False], [True, False, False], [False, False, False]]
        ),
    )
    return text, video


def gradients(head, batch, phase):
    head.phase = phase
    head.zero_grad()
    losses = head.loss(*batch)
    sum(v for k, v in losses.items() if k.startswith('loss')).backward()
    return {n for n, p in head.named_parameters() if p.grad is not None}, losses


@pytest.mark.parametrize('m_source', ['phi', 'q_hat'])
def test_each_phase_teaches_one_network(batch, m_source):
    head = build(m_source=m_source)
    phi = {n for n, _ in head.named_parameters() if n.startswith('posterior.')}
    theta = {n for n, _ in head.named_parameters()} - phi
    found, _ = gradients(head, batch, 'E')
    assert found == phi
    found, _ = gradients(head, batch, 'M')
    assert found == theta
    found, losses = gradients(head, batch, 'warmup')
    assert set(losses) == {'loss_mil_theta', 'loss_mil_phi'}
    assert all(n.split('.')[1] == 'tubes' for n in found)


def test_gradients_of_the_m_phase_are_analytic(batch):
    """ds = softmax(s) - q; dh = sigmoid(h) - q; d rho = -(beta / T) q_t q_i q_j (spec 1.7)."""
    text, video = batch
    head = build(beta=1.5)
    p = head.potentials(text, video)
    own, q = head.amortised(text, video, p)
    q = q.detach()
    fields = [x.detach().requires_grad_() for x in (p.tubes, p.clips, p.rho)]
    p = replace(p, tubes=fields[0], clips=fields[1], rho=fields[2])
    loss = -sum(mean_field.expected_log_prior(p, q)) - mean_field.expected_log_relations(p, q)
    loss.sum().backward()
    steps = torch.tensor([5.0, 5, 4])
    expected = p.tubes.softmax(2) * p.entity_present[..., None, None] - q.tubes
    assert_close(fields[0].grad, expected)
    assert_close(fields[1].grad, (p.clips.sigmoid() - q.clips) * p.clip_present)
    pair = q.tubes[0, 0, :, 0][:, None] * q.tubes[0, 1, :, 0][None]
    expected = -1.5 / steps[0] * pair[..., None] * q.clips[0]
    assert_close(fields[2].grad[0, 0, :, :4], expected)
    # A relation without object: all weight is on "none".
    expected = -1.5 / steps[2] * q.tubes[2, 0] * q.clips[2]
    assert_close(fields[2].grad[2, 0, :, 4], expected)
    assert fields[2].grad[2, 0, :, :4].abs().sum() == 0


def test_the_forward_divergence_is_zero_where_phi_is_right(batch):
    """L_E of spec 1.6 is KL(q-hat | q_phi), computed here term by term."""
    head = build(mil_weight=0.0)
    _, losses = gradients(head, batch, 'E')
    with torch.no_grad():
        p = head.potentials(*batch)
        _, q = head.amortised(*batch, p)
        q_hat = mean_field.infer(p, q, 3)

        def kl(a, b):
            return torch.where(a > 0, a * (a / b.clamp(min=1e-30)).log(), 0)

        there = p.clip_present
        expected = kl(q_hat.tubes, q.tubes).sum((1, 2, 3))
        for a, b in ((q_hat.clips, q.clips), (1 - q_hat.clips, 1 - q.clips)):
            expected = expected + (kl(a, b) * there).sum(1)
    assert_close(losses['loss_e'], expected.mean(), rtol=1e-4, atol=1e-5)
    assert losses['loss_e'] > 0


def test_the_reverse_divergence_is_the_bound(batch):
    head = build(mil_weight=0.0, kl='reverse')
    _, losses = gradients(head, batch, 'E')
    with torch.no_grad():
        p = head.potentials(*batch)
        expected = -mean_field.elbo(p, head.amortised(*batch, p)[1]).mean()
    assert_close(losses['loss_e'], expected)


def test_beta_zero_is_the_prior_and_trains_no_relation(batch):
    head = build(beta=0.0)
    with torch.no_grad():
        p = head.potentials(*batch)
        found = head.predict(*batch)['p']
    assert_close(found.tubes, mean_field.prior(p).tubes, atol=1e-6, rtol=0)
    _, losses = gradients(head, batch, 'M')
    assert losses['loss_relation'] == 0


def test_readings_of_beta(batch):
    likelihood, loss, fusion = (
        build(beta=0.5, beta_mode=m) for m in ('likelihood', 'loss', 'fusion')
    )
    steps = torch.tensor([5.0, 5, 4])
    assert_close(likelihood.potentials(*batch).weight, 0.5 / steps)
    assert_close(loss.potentials(*batch).weight, 1 / steps)
    terms = [gradients(h, batch, 'M')[1]['loss_relation'] for h in (likelihood, loss, fusion)]
    assert_close(terms[0], terms[1])
    assert_close(2 * terms[0], terms[2])
    found = fusion.predict(*batch)
    plain = loss.predict(*batch)
    mixed = found['q'].tubes * plain['p'].tubes.sqrt()
    mixed = mixed / mixed.sum(2, keepdim=True).clamp(min=1e-30)
    assert_close(found['p'].tubes, mixed, atol=1e-5, rtol=0)
    half = build(beta=0.5)
    half.beta_scale.fill_(0.5)
    assert_close(half.potentials(*batch).weight, 0.25 / steps)


@pytest.mark.parametrize(
    'settings',
    [
        dict(tied=False, tube_coupling=0.5),
        dict(temporal='segment'),
        dict(clip_coupling=0.5),
        dict(posterior_clip_tubes=True, own_motion=True),
        dict(e_start='prior', kl='reverse'),
    ],
    ids=str,
)
def test_variants_learn_and_answer(batch, settings):
    head = build(**settings)
    for phase in ('warmup', 'E', 'M'):
        _, losses = gradients(head, batch, phase)
        assert all(torch.isfinite(v).all() for v in losses.values())
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in head.parameters())
    for found in head.predict(*batch).values():
        assert_close(
            found.tubes.sum(2).squeeze()[0], torch.ones_like(found.tubes[0, :, 0]).squeeze()
        )
        assert found.tubes[2, :, 3].sum() == 0  # the absent tube
        assert found.clips[2, 4] == 0


@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(tied=False, tube_coupling=0.5),
        dict(temporal='segment', event_share=0.4),
        dict(posterior_clip_tubes=True, own_motion=True, relation_context=2),
    ],
    ids=lambda settings: next(iter(settings), 'default'),
)
def test_a_sentence_is_answered_alone_as_in_a_batch(batch, settings):
    """The third one, in the video with a clip and a tube less, its two entities being related."""
    head = build(**settings).eval()
    text, video = batch
    text['entity_present'][2, 1], text['object'][2, 0] = True, 1
    together = head.predict(text, video)
    alone = {k: v[2:] for k, v in text.items()}
    alone.update({k: alone[k][:, :2] for k in ('entities', 'entity_present')})
    alone.update({k: alone[k][:, :1] for k in ('subject', 'object', 'predicate')})
    alone.update(
        relation_present=text['relation_present'][2:, :1],
        not_negative=torch.zeros(1, 1, dtype=torch.bool),
        video_index=torch.tensor([0]),
    )
    clip = {
        'tube_feats': video['tube_feats'][1:, :3, :4],
        'tube_boxes': video['tube_boxes'][1:, :3, :4],
        'tube_present': video['tube_present'][1:, :3],
        'frame_feats': video['frame_feats'][1:, :4],
        'clip_present': video['clip_present'][1:, :4],
    }
    found = head.predict(alone, clip)
    for name in 'pq':
        tubes = together[name].tubes[2, :2, :3]
        assert_close(found[name].tubes[0], tubes[..., : found[name].tubes.shape[-1]])
        assert_close(found[name].clips[0], together[name].clips[2, :4])
    score = head.prior.tubes.agreement(text, video)[2, 1]
    assert_close(head.prior.tubes.agreement(alone, clip)[0, 0], score)


@pytest.mark.parametrize('phase', ['warmup', 'E', 'M'])
def test_half_precision_leaves_the_head_in_float32(batch, phase):
    head = build()
    head.phase = phase
    expected = head.loss(*batch)
    text, video = batch
    with torch.autocast('cpu', torch.bfloat16):
        found = head.loss(text, video)
        answers = head.predict(text, video)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert answers['p'].tubes.dtype == torch.float32


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(temporal='segment', event_share=0.4, same_tube_always=True, own_motion=True),
        dict(tied=False, tube_coupling=0.3, clip_coupling=0.2, m_source='q_hat', kl='reverse'),
        dict(beta_mode='fusion', e_start='prior'),
    ],
)
def test_nothing_is_made_on_another_device(batch, fake_gpu, monkeypatch, settings, amp):
    head = build(**settings)
    # How many relations an entity has is a number, which a fake GPU does not know.
    roles = mean_field._roles(head.potentials(*batch))
    with fake_gpu.on(amp):
        head, (text, video), roles = map(fake_gpu.move, (head, batch, roles))
        monkeypatch.setattr(mean_field, '_roles', lambda p: roles)
        for head.phase in ('warmup', 'E', 'M'):
            losses = head.loss(text, video)
            assert losses and {loss.device for loss in losses.values()} == {fake_gpu.device}
        found = head.predict(text, video)
    assert {q.device for b in found.values() for q in (b.tubes, b.clips)} == {fake_gpu.device}


def test_the_contrast_leaves_out_what_may_be_true(batch):
    text, video = batch
    head = build()
    _, losses = gradients(head, batch, 'warmup')
    scores = head.prior.tubes.agreement(text, video)[:, text['video_index']] / head.tau
    rows = [scores[0, [0, 2]], scores[1, [1, 2]], scores[2, [2, 0, 1]]]
    columns = [scores[[0, 2], 0], scores[[1, 2], 1], scores[[2, 0, 1], 2]]
    expected = -torch.stack([r.log_softmax(0)[0] for r in rows + columns]).mean()
    assert_close(losses['loss_mil_theta'], expected)


def test_two_tubes_that_are_one_are_unlikely(batch):
    p = build().potentials(*batch)
    diagonal = p.rho[0, 0, range(4), range(4)]
    assert (diagonal == -10).all()
    assert (p.rho[0, 0, 0, 1:] > -10).all() and (p.rho[0, 0, :, 4] > -10).all()
    assert (p.rho[2, 0, 3] == 0).all() and (p.rho[1, 1] == 0).all()  # absent tube, absent relation


def test_whether_the_event_is_on_does_not_depend_on_one_tube_being_two(batch):
    p = build(same_tube_always=True).potentials(*batch)
    assert (p.pairs[0, 0, range(4), range(4)] == -10).all() and p.pairs[0, 0, 0, 1] == 0
    assert (p.rho > -10).all() and (p.pairs[1, 1] == 0).all() and (p.pairs[2, 0, 3] == 0).all()
    q = mean_field.prior(p)
    free = replace(p, pairs=None)
    lost = mean_field.elbo(free, q) - mean_field.elbo(p, q)
    same = (q.tubes[0, 0] * q.tubes[0, 1]).sum() + (q.tubes[0, 1] * q.tubes[0, 2]).sum()
    assert_close(lost[0], 10 * same, rtol=1e-4, atol=1e-4)
    bounds = [mean_field.elbo(p, mean_field.infer(p, sweeps=n)) for n in range(6)]
    assert all((b >= a - 1e-5).all() for a, b in zip(bounds, bounds[1:]))


def test_geometry_of_a_pair():
    still = torch.tensor([0.1, 0.1, 0.3, 0.5]).expand(3, 4)
    mover = torch.stack([torch.tensor([0.2 + s, 0.2, 0.4 + s, 0.4]) for s in (0.0, 0.1, 0.2)])
    found = pair_geometry(torch.stack([still, mover])[None], own_motion=True)[0, 0, 1]
    assert_close(found[:, 0], torch.tensor([0.5, 1.0, 1.5]))  # dx / w
    assert_close(found[:, 1], torch.zeros(3), atol=1e-6, rtol=0)
    assert_close(found[0, 2:4], torch.tensor([1.0, 0.5]).log())
    assert_close(found[0, 4], torch.tensor(0.02 / 0.10))  # IoU
    assert_close(found[:, 5], torch.full((3,), 0.5))  # dx' / w
    assert_close(found[:, 7:9], torch.zeros(3, 2))  # k stands
    assert_close(found[:, 9], torch.full((3,), 0.5))
    assert_close(found[:, 11], torch.full((3,), 0.5), atol=1e-3, rtol=0)  # they part


def test_geometry_ends_with_the_video():
    boxes = torch.rand(1, 3, 6, 4).sort(-1).values
    padded = torch.cat([boxes, torch.zeros(1, 3, 2, 4)], 2)
    counts = torch.tensor([6])
    found = pair_geometry(padded, own_motion=True, counts=counts)[..., :6, :]
    assert_close(found, pair_geometry(boxes, own_motion=True))


def test_a_relation_sees_the_clips_around_it():
    """A change of the boxes in one clip is seen from ``context`` clips, and one for motion, away."""
    torch.manual_seed(0)
    net = RelationNet(5, tube_dims=6, hidden_dims=8, context=2)
    video = dict(
        tube_feats=torch.randn(1, 2, 10, 6),
        tube_boxes=torch.rand(1, 2, 10, 4).sort(-1).values,
        clip_present=torch.arange(10)[None] < 9,
    )
    before = net(video)
    video['tube_boxes'][0, 0, 4] += 0.1
    changed = (net(video) != before).any(-1)[0]
    assert changed[0, 1].nonzero().flatten().tolist() == [1, 2, 3, 4, 5, 6, 7]
    after = net(video)
    video['tube_boxes'][0, 0, 9] += 0.1  # not of the video
    assert_close(net(video)[..., :9, :], after[..., :9, :])
