"""Analytic checks A, B and C of spec vcma 1.10, and invariances of the E-step."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from mmvg.models.layers import mean_field
from mmvg.models.layers.mean_field import Beliefs, Potentials

S = torch.tensor([[1.0, 0.8, -0.5], [-0.5, 0.2, 1.0]]).double()


def near(value, expected, tolerance=1.5e-6):
    expected = torch.as_tensor(expected, dtype=value.dtype)
    assert_close(value.squeeze(), expected, atol=tolerance, rtol=0)


def two_entities(tubes, pairs, clips, beta, log_pi0=0.0, **others) -> Potentials:
    """One relation from entity 0 to entity 1; ``pairs`` K x K x T are likelihoods."""
    count, steps = len(tubes[0]), len(clips)
    rho = torch.zeros(1, 1, count, count + 1, steps, dtype=torch.double)
    rho[0, 0, :, :count] = pairs.log()
    return Potentials(
        tubes=tubes.view(1, 2, count, 1),
        clips=torch.tensor([clips]).double(),
        rho=rho,
        log_pi0=torch.full((1, 1), log_pi0).double(),
        subject=torch.tensor([[0]]),
        object=torch.tensor([[1]]),
        entity_present=torch.ones(1, 2, dtype=torch.bool),
        clip_present=torch.ones(1, steps, dtype=torch.bool),
        weight=torch.tensor([beta / steps]).double(),
        **others,
    )


def case_a(beta):
    pairs = torch.tensor([[0.05, 0.10, 0.10], [0.10, 0.05, 0.80], [0.10, 0.10, 0.05]]).double()
    return two_entities(S, pairs.unsqueeze(-1), [math.inf], beta)


def case_b(beta, **others):
    pairs = torch.full((3, 3, 3), 0.1).double()
    pairs[0, 2] = 0.2
    pairs[1:, 2, 1:] = 0.1
    pairs[0, 2, :] = 0.2
    pairs[1, 2, 1:] = 0.8
    return two_entities(S, pairs, [-1.0, 0.0, 0.5], beta, math.log(0.2), **others)


def enumerate_states(p: Potentials, patterns=None):
    """Exact log p(R) and marginals by summing over all tubes and times."""
    _, entities, tubes, _ = p.tubes.shape
    steps = p.clips.shape[1]
    patterns = patterns or list(itertools.product((0, 1), repeat=steps))
    joint, prior, states = [], [], []
    for chosen in itertools.product(range(tubes), repeat=entities):
        for on in patterns:
            here = sum(p.tubes[0, i, k, 0] for i, k in enumerate(chosen))
            here = here + sum(h for h, z in zip(p.clips[0], on) if z)
            relations = 0.0
            for r in range(p.subject.shape[1]):
                i, j = p.subject[0, r], p.object[0, r]
                last = chosen[j] if j < entities else tubes
                for t, z in enumerate(on):
                    relations += p.rho[0, r, chosen[i], last, t] if z else p.log_pi0[0, r]
            prior.append(here)
            joint.append(here + p.weight[0] * relations)
            states.append((chosen, on))
    prior, joint = torch.stack(prior), torch.stack(joint)
    posterior = joint.softmax(0)
    marginals = torch.zeros(entities, tubes).double()
    clips = torch.zeros(steps).double()
    for probability, (chosen, on) in zip(posterior, states):
        for i, k in enumerate(chosen):
            marginals[i, k] += probability
        clips += probability * torch.tensor(on)
    best = states[int(posterior.argmax())], posterior.max()
    return joint.logsumexp(0) - prior.logsumexp(0), marginals, clips, best


def certain(p: Potentials) -> Potentials:
    """Case A fixes z_T to 1: a large finite logit keeps the enumeration finite."""
    return replace(p, clips=torch.full_like(p.clips, 60.0))


@pytest.mark.parametrize(
    ('beta', 'log_p', 'exact', 'q', 'bound'),
    [
        (
            0.5,
            -0.837549,
            [[0.343879, 0.590255, 0.065866], [0.083503, 0.173259, 0.743238]],
            [[0.339454, 0.600740, 0.059805], [0.082914, 0.152512, 0.764574]],
            -0.875658,
        ),
        (
            1,
            -1.362949,
            [[0.178613, 0.791451, 0.029936], [0.039368, 0.083937, 0.876695]],
            [[0.149495, 0.832524, 0.017982], [0.033356, 0.041838, 0.924806]],
            -1.418360,
        ),
        (
            2,
            -1.837250,
            [[0.027675, 0.968540, 0.003785], [0.005300, 0.011797, 0.982903]],
            [[0.019097, 0.979824, 0.001079], [0.003677, 0.001955, 0.994368]],
            -1.848852,
        ),
    ],
)
def test_two_entities_three_tubes(beta, log_p, exact, q, bound):
    p = certain(case_a(beta))
    evidence, marginals, _, _ = enumerate_states(p)
    near(evidence, log_p)
    near(marginals, exact)
    found = mean_field.infer(p, sweeps=60)
    near(found.tubes, q)
    near(mean_field.elbo(p, found), bound)


def test_one_sweep_from_the_prior_and_every_corner():
    p = certain(case_a(1))
    start = mean_field.prior(p)
    near(start.tubes, [[0.489749, 0.400973, 0.109278], [0.133414, 0.268664, 0.597922]])
    near(mean_field.elbo(p, start), -1.969288)
    once = mean_field.infer(p, sweeps=1)
    near(once.tubes, [[0.266925, 0.689912, 0.043164], [0.040861, 0.061374, 0.897765]])
    near(mean_field.elbo(p, once), -1.476617)
    fixed = mean_field.infer(p, sweeps=60).tubes
    for corner in itertools.product(range(3), repeat=2):
        tubes = torch.eye(3).double()[list(corner)].view(1, 2, 3, 1)
        found = mean_field.infer(p, Beliefs(tubes, start.clips), sweeps=60)
        assert_close(found.tubes, fixed, atol=1e-12, rtol=0)


def test_tubes_and_times():
    p = case_b(3)
    evidence, marginals, clips, (best, probability) = enumerate_states(p)
    near(evidence, -4.140505)
    near(marginals, [[0.191457, 0.783982, 0.024561], [0.029985, 0.060383, 0.909632]])
    near(clips, [0.172081, 0.706815, 0.788388])
    assert best == ((1, 2), (0, 1, 1))
    near(probability, 0.438734)
    near(mean_field.elbo(p, mean_field.prior(p)), -4.950740)
    found = mean_field.infer(p, sweeps=60)
    near(mean_field.elbo(p, found), -4.259652)
    near(found.tubes, [[0.138861, 0.851577, 0.009562], [0.010983, 0.022117, 0.966900]])
    near(found.clips, [0.167970, 0.752522, 0.833704])
    p = case_b(6)
    near(enumerate_states(p)[0], -6.809773)
    found = mean_field.infer(p, sweeps=200)
    near(mean_field.elbo(p, found), -6.826942)
    near(found.clips, [0.084974, 0.940012, 0.962736])


def test_contiguous_segments():
    segments = mean_field.all_segments(3).double()
    p = case_b(3, segments=segments)
    evidence, _, clips, _ = enumerate_states(p, [tuple(s.tolist()) for s in segments])
    # The recorded value leaves the prior as it is; ours is a distribution over segments.
    prior = torch.tensor([-1.0, 0.0, 0.5]).double().sigmoid()
    no_segment = (1 - prior).prod() + prior[0] * (1 - prior[1]) * prior[2]
    near(evidence + (1 - no_segment).log(), -4.253431)
    near(clips, [0.150768, 0.791314, 0.840754])
    bounds = [mean_field.elbo(p, mean_field.infer(p, sweeps=n)).item() for n in range(30)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(bounds))
    assert bounds[-1] <= evidence
    assert mean_field.infer(p, sweeps=30).segments.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(('beta', 'q', 'bound'), [(1, 0.75, -1.190944), (1.5, 0.951478, -1.460377)])
def test_symmetric_case_has_a_saddle_and_breaks_ties(beta, q, bound):
    pairs = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).double().unsqueeze(-1)
    p = certain(two_entities(torch.zeros(2, 2).double(), pairs, [0.0], beta))
    if beta == 1:
        near(enumerate_states(p)[0], -math.log(2))
        near(mean_field.elbo(p, mean_field.infer(p, sweeps=5)), -1.203973)
    tubes = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).double().view(1, 2, 2, 1)
    found = mean_field.infer(p, Beliefs(tubes, torch.ones(1, 1).double()), sweeps=1500)
    near(found.tubes[..., 0], [[q, 1 - q], [q, 1 - q]], 1e-4 if beta == 1 else 1.5e-6)
    near(mean_field.elbo(p, found), bound)


def test_exact_em_on_a_table():
    """Check D: one entity, two candidate tubes of known type, one relation without object."""
    theta = torch.tensor([[0.6, 0.4], [0.3, 0.7]]).double()
    types = torch.tensor([[0, 1], [0, 1], [1, 0], [0, 0]])
    predicate = torch.tensor([0, 0, 1, 1])
    likelihoods, thetas = [], []
    for _ in range(6):
        rho = torch.zeros(4, 1, 2, 3, 1).double()
        rho[..., 2, 0] = theta[types, predicate[:, None]].log().unsqueeze(1)
        p = Potentials(
            tubes=torch.zeros(4, 1, 2, 1).double(),
            clips=torch.full((4, 1), 60.0).double(),
            rho=rho,
            log_pi0=torch.zeros(4, 1).double(),
            subject=torch.zeros(4, 1).long(),
            object=torch.ones(4, 1).long(),
            entity_present=torch.ones(4, 1, dtype=torch.bool),
            clip_present=torch.ones(4, 1, dtype=torch.bool),
            weight=torch.ones(4).double(),
        )
        q = mean_field.infer(p, sweeps=1)
        likelihoods.append(mean_field.elbo(p, q).sum())
        counts = torch.zeros(2, 2).double()
        for n in range(4):
            for k in range(2):
                counts[types[n, k], predicate[n]] += q.tubes[n, 0, k, 0]
        theta = counts / counts.sum(1, keepdim=True)
        thetas.append(theta)
    near(thetas[0], [[0.494382, 0.505618], [0.511628, 0.488372]])
    expected = [-3.111143, -2.755460, -2.519341, -2.369621, -2.272641, -2.208609]
    near(torch.stack(likelihoods), expected)


def random_problem(seed, **others) -> Potentials:
    """Two sentences of different size in one batch, each with an absent tube, entity and relation."""
    g = torch.Generator().manual_seed(seed)
    entities, relations, tubes, steps = 3, 3, 4, 5

    def rand(*shape):
        return torch.randn(*shape, generator=g).double()

    untied = others.pop('untied', False)
    field = 2 * rand(2, entities, tubes, steps if untied else 1)
    field[1, :, -1] = -torch.inf
    rho = (rand(2, relations, tubes, tubes + 1, steps) * 2 - 2).clamp(max=0)
    rho[1, :, -1] = 0
    rho[1, :, :, -2] = 0
    rho[1, 2] = 0
    log_pi0 = -rand(2, relations).abs()
    log_pi0[1, 2] = 0
    clip_present = torch.ones(2, steps, dtype=torch.bool)
    clip_present[1, -1] = False
    return Potentials(
        tubes=field,
        clips=rand(2, steps),
        rho=rho,
        log_pi0=log_pi0,
        subject=torch.tensor([[0, 1, 2], [0, 1, 0]]),
        object=torch.tensor([[1, 2, entities], [1, entities, entities]]),
        entity_present=torch.tensor([[True] * 3, [True, True, False]]),
        clip_present=clip_present,
        weight=torch.tensor([3.0 / 5, 3.0 / 4]).double(),
        **others,
    )


VARIANTS = [
    dict(),
    dict(clip_coupling=0.7),
    dict(segments=True),
    dict(untied=True, tube_coupling=0.8),
    dict(untied=True, tube_coupling=0.8, clip_coupling=0.5),
]


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_the_bound_never_falls(variant):
    for seed in range(25):
        chosen = dict(variant)
        if chosen.pop('segments', False):
            chosen['segments'] = mean_field.all_segments(5).double()
        p = random_problem(seed, **chosen)
        q, bound = mean_field.prior(p), None
        for _ in range(6):
            now = mean_field.elbo(p, q)
            assert bound is None or (now >= bound - 1e-9).all()
            bound, q = now, mean_field.infer(p, q, sweeps=1)
        assert torch.isfinite(bound).all()


def random_problems(count, entities=3, relations=3, tubes=3, steps=2):
    """Sentences with 1 to 3 entities and 0 to 3 relations, with and without object, and fewer tubes."""
    g = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(count, *shape, generator=g).double()

    def choose(low, high, *shape):
        """Of low..high each, inclusive."""
        span = torch.as_tensor(high) - low + 1
        return low + (torch.rand(count, *shape, generator=g) * span).long()

    present = choose(1, entities)
    related = torch.arange(relations) < choose(0, relations).unsqueeze(1)
    subject = choose(0, present.unsqueeze(1) - 1, relations)
    # A step of 1 to the number of entities, in a circle that has a place for no object.
    other = (subject + choose(1, present.unsqueeze(1), relations)) % (present.unsqueeze(1) + 1)
    clip_present = torch.arange(steps) < choose(1, steps).unsqueeze(1)
    field = 2 * draw(entities, tubes, 1)
    rho = (2 * draw(relations, tubes, tubes + 1, steps) - 2).clamp(max=0)
    absent = torch.arange(tubes) >= choose(1, tubes).unsqueeze(1)
    rho = rho.masked_fill(absent[:, None, :, None, None], 0)
    rho[..., :tubes, :].masked_fill_(absent[:, None, None, :, None], 0)
    there = related[:, :, None, None, None] & clip_present[:, None, None, None]
    return Potentials(
        tubes=field.masked_fill(absent[:, None, :, None], -torch.inf),
        clips=draw(steps),
        rho=rho * there,
        log_pi0=-draw(relations).abs() * related,
        subject=subject,
        object=torch.where(other < present.unsqueeze(1), other, entities),
        entity_present=torch.arange(entities) < present.unsqueeze(1),
        clip_present=clip_present,
        weight=choose(0, 6).double() / clip_present.sum(1),
        pairs=-draw(relations, tubes, tubes + 1).abs() * related[:, :, None, None],
    )


def evidence_of(p):
    """Exact log p(R) of a batch; what absent entities and clips add is in the prior too."""
    _, entities, tubes, _ = p.tubes.shape
    steps, sentences = p.clips.shape[1], torch.arange(len(p.tubes)).unsqueeze(1)
    relations = torch.arange(p.subject.shape[1])
    joint, prior = [], []
    for chosen in itertools.product(range(tubes), repeat=entities):
        first, last = (torch.tensor([*chosen, tubes])[i] for i in (p.subject, p.object))
        rho = p.rho[sentences, relations, first, last]
        always = p.pairs[sentences, relations, first, last].unsqueeze(-1)
        for on in itertools.product((0.0, 1.0), repeat=steps):
            on = torch.tensor(on).to(p.clips)
            here = p.tubes[:, torch.arange(entities), chosen, 0].sum(1)
            prior.append(here + (p.clips * p.clip_present) @ on)
            speaks = rho * on + p.log_pi0.unsqueeze(-1) * (1 - on) + always
            speaks = (speaks * p.clip_present.unsqueeze(1)).sum((1, 2))
            joint.append(prior[-1] + p.weight * speaks)
    return torch.stack(joint).logsumexp(0) - torch.stack(prior).logsumexp(0)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.double, 1e-9), (torch.float, 2e-5)])
def test_the_bound_rises_to_below_the_evidence_in_500_problems(dtype, tolerance):
    """Spec 5 item 4."""
    p = random_problems(500)
    evidence = evidence_of(p)
    floats = {
        k: v.to(dtype) for k, v in vars(p).items() if torch.is_tensor(v) and v.is_floating_point()
    }
    p = replace(p, **floats)
    q, bounds = mean_field.prior(p), []
    for _ in range(7):
        bounds.append(mean_field.elbo(p, q).double())
        q = mean_field.infer(p, q, sweeps=1)
    bounds = torch.stack(bounds)
    assert (bounds.diff(dim=0) >= -tolerance).all()
    gap = evidence - bounds
    assert (gap >= -tolerance).all()
    assert gap[-1].mean() < 0.2 < gap[0].mean()
    # Where nothing depends on anything else, the bound is exact.
    assert (gap[-1, p.weight == 0].abs() < tolerance).all()


def test_entities_without_relations_cost_no_message():
    """Products of a sweep grow with the relations, not with entities times relations."""
    p = random_problems(4)
    more = 5
    wide = replace(
        p,
        tubes=torch.cat([p.tubes, p.tubes.new_zeros(4, more, *p.tubes.shape[2:])], 1),
        entity_present=torch.cat([p.entity_present, torch.ones(4, more, dtype=torch.bool)], 1),
        object=torch.where(p.object == 3, 3 + more, p.object),
    )
    counts = []
    for problem in (p, wide):
        with FlopCounterMode(display=False) as counter:
            found = mean_field.infer(problem, sweeps=2)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    assert_close(found.tubes[:, :3], mean_field.infer(p, sweeps=2).tubes)


def test_the_host_asks_the_gpu_once_whatever_the_sweeps(host_waits):
    p = random_problems(4)
    for sweeps in (1, 5):
        assert host_waits(lambda sweeps=sweeps: mean_field.infer(p, sweeps=sweeps)) == ['tolist']


@pytest.mark.parametrize('coupling', [0.0, 0.9])
def test_chain_partition_is_the_sum_over_all_states(coupling):
    field = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    present = torch.tensor([[True] * 4, [True, True, True, False]]).unsqueeze(1)
    found = mean_field.potts_chain.log_partition(field, present, coupling)
    for row, steps in ((0, 4), (1, 3)):
        terms = []
        for z in itertools.product(range(3), repeat=steps):
            same = sum(a == b for a, b in itertools.pairwise(z))
            terms.append(sum(field[row, k, t] for t, k in enumerate(z)) + coupling * same)
        near(found[row], torch.stack(terms).logsumexp(0).item(), 1e-9)


def test_without_relations_it_is_the_prior():
    p = replace(random_problem(3), weight=torch.zeros(2).double())
    found, start = mean_field.infer(p, sweeps=3), mean_field.prior(p)
    assert_close(found.tubes, start.tubes, atol=1e-7, rtol=0)
    assert_close(found.clips, start.clips, atol=1e-7, rtol=0)
    near(mean_field.elbo(p, found), [0.0, 0.0], 1e-9)


@pytest.mark.parametrize('temporal', ['free', 'segment'])
def test_a_share_of_the_clips_can_be_fixed(temporal):
    p = replace(random_problem(9), event_share=0.4)
    if temporal == 'segment':
        p = replace(p, segments=mean_field.all_segments(p.clips.shape[1]).double())
    bounds = []
    for sweeps in range(6):
        q = mean_field.infer(p, sweeps=sweeps)
        assert_close(q.clips.sum(1), 0.4 * p.clip_present.sum(1).double())
        bounds.append(mean_field.elbo(p, q))
    assert all((b >= a - 1e-9).all() for a, b in itertools.pairwise(bounds))
    free = mean_field.infer(replace(p, event_share=None), sweeps=5)
    assert (mean_field.elbo(p, free) >= bounds[-1]).all()


def test_order_of_tubes_does_not_matter():
    p = random_problem(5)
    order = torch.tensor([2, 0, 3, 1])
    rho = p.rho[:, :, order][:, :, :, torch.cat([order, torch.tensor([4])])]
    moved = replace(p, tubes=p.tubes[:, :, order], rho=rho)
    found, again = mean_field.infer(p), mean_field.infer(moved)
    assert_close(again.tubes, found.tubes[:, :, order])
    assert_close(again.clips, found.clips)


def test_a_sentence_is_the_same_alone_and_in_a_batch():
    p = random_problem(7)
    alone = Potentials(
        tubes=p.tubes[1:, :2, :3],
        clips=p.clips[1:, :4],
        rho=p.rho[1:, :2][:, :, [0, 1, 2]][:, :, :, [0, 1, 2, 4]][..., :4],
        log_pi0=p.log_pi0[1:, :2],
        subject=p.subject[1:, :2],
        object=torch.tensor([[1, 2]]),
        entity_present=p.entity_present[1:, :2],
        clip_present=p.clip_present[1:, :4],
        weight=p.weight[1:],
    )
    found, there = mean_field.infer(alone), mean_field.infer(p)
    assert_close(there.tubes[1:, :2, :3], found.tubes)
    assert_close(there.clips[1:, :4], found.clips)
    assert_close(mean_field.elbo(p, there)[1:], mean_field.elbo(alone, found))


@pytest.mark.parametrize('scale', [1.0, 1e4])
def test_extremes_stay_finite(scale):
    p = random_problem(11)
    p = replace(
        p,
        tubes=(scale * p.tubes).float(),
        clips=(scale * p.clips).float(),
        rho=p.rho.float(),
        log_pi0=p.log_pi0.float(),
        weight=torch.full((2,), 50.0),
    )
    found = mean_field.infer(p, sweeps=5)
    for value in (found.tubes, found.clips, mean_field.elbo(p, found)):
        assert torch.isfinite(value).all()
