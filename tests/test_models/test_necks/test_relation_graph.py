"""Context from related phrases (spec reir 2.6, A19)."""

import math

import pytest
import torch
from mmdet.registry import MODELS

DIMS, GATE, K = 8, 6, 3
# Image 0: a chain, a self-loop, and phrase 4 on its own. Image 1: no relations. Image 2: one edge,
# two phrases that exist.
RELATIONS = [(0, 0, 1), (0, 1, 2), (0, 3, 3), (0, 3, 0), (2, 0, 1)]
PHRASES = [5, 4, 2]


def build(**options):
    torch.manual_seed(0)
    neck = MODELS.build(dict(type='RelationGraphNeck', embed_dims=DIMS, gate_dims=GATE, **options))
    neck.message.bias.data.normal_()  # so that some of it leaks to isolated phrases
    return neck


def make_edges(relations=RELATIONS, images=3, phrases=5):
    edges = torch.zeros(images, phrases, phrases, dtype=torch.bool)
    for image, i, j in relations:
        edges[image, i, j] = edges[image, j, i] = True
    return edges


def make_inputs(seed=0):
    """Visual features and their weights; empty slots of phrases are zero."""
    generator = torch.Generator().manual_seed(seed)
    visual = torch.randn(3, 5, K, DIMS, generator=generator)
    attention = torch.rand(3, 5, K, generator=generator)
    present = torch.arange(5) < torch.tensor(PHRASES)[:, None]
    attention = attention * present.unsqueeze(-1)
    visual = visual * present[:, :, None, None]
    return visual.requires_grad_(), attention.requires_grad_()


def plain(neck, visual, attention, edges):
    """One image, phrase by phrase."""
    if not edges.any():
        return visual
    nodes = [(a[:, None] * v).sum(0) for a, v in zip(attention, visual, strict=True)]
    result = []
    for i, node in enumerate(nodes):
        neighbours, likeness = [], []
        for j in range(len(nodes)):
            if not edges[i, j]:
                continue
            if neck.variant == 'code':
                value = neck.gate(node) @ neck.gate(nodes[j]) / math.sqrt(GATE)
                value = torch.ones(()) if neck.attention == 'uniform' else value
                if neck.gate_relu and value <= 0:
                    continue
            else:
                value = neck.message(node).relu() @ neck.message(nodes[j]).relu()
                value = torch.zeros(()) if neck.attention == 'uniform' else value
            neighbours.append(j)
            likeness.append(value)
        shares = torch.stack(likeness).softmax(0) if neighbours else []
        if neck.variant == 'code':
            gathered = sum((s * nodes[j] for s, j in zip(shares, neighbours)), node * 0)
            context = neck.message(gathered).relu() + (node if neck.residual else 0)
        else:
            messages = (s * neck.message(nodes[j]).relu() for s, j in zip(shares, neighbours))
            context = sum(messages, node if neck.residual else 0 * node)
        if neck.isolated_zero and not edges[i].any():
            context = context * 0
        result.append(visual[i] + attention[i][:, None] * context)
    return torch.stack(result)


@pytest.mark.parametrize('variant', ['code', 'paper'])
@pytest.mark.parametrize('attention', ['learned', 'uniform'])
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(isolated_zero=True),
        dict(residual=True),
        dict(residual=False, gate_relu=False),
    ],
    ids=str,
)
def test_a_batch_is_a_loop_over_images_and_phrases(variant, attention, options):
    neck = build(variant=variant, attention=attention, **options)
    assert neck.residual == options.get('residual', variant == 'paper')
    visual, weights = make_inputs()
    edges = make_edges()
    found = neck(visual, weights, edges)
    for b, count in enumerate(PHRASES):
        expected = plain(neck, visual[b, :count], weights[b, :count], edges[b, :count, :count])
        torch.testing.assert_close(found[b, :count], expected, atol=1e-5, rtol=1e-5)
        assert not found[b, count:].any()
    found.square().sum().backward()
    for tensor in (visual, weights, *neck.parameters()):
        assert tensor.grad is None or tensor.grad.isfinite().all()


@pytest.mark.parametrize('variant', ['code', 'paper'])
def test_without_relations_nothing_changes(variant):
    """In one image, or in all of them."""
    neck = build(variant=variant)
    visual, weights = make_inputs()
    assert torch.equal(neck(visual, weights, make_edges())[1], visual[1])
    found = neck(visual, weights, make_edges([]))
    assert torch.equal(found, visual)
    found.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in neck.parameters())


def test_a_phrase_without_relations_receives_the_bias():
    """In a caption that has some; the release does so, ``isolated_zero`` does not."""
    visual, weights = make_inputs()
    neck = build()
    gain = (neck(visual, weights, make_edges()) - visual)[0, 4]
    torch.testing.assert_close(gain, weights[0, 4][:, None] * neck.message.bias.relu())
    assert gain.any()
    gain = (build(isolated_zero=True)(visual, weights, make_edges()) - visual)[0, 4]
    assert not gain.any()


def test_an_edge_of_negative_likeness_is_dead():
    """Opposite nodes: the gate is below 0, no weight, no gradient."""
    neck = build()
    neck.gate.bias.data.zero_()
    visual = torch.randn(1, 1, 1, DIMS) * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    weights, edges = torch.ones(1, 2, 1), make_edges([(0, 0, 1)], 1, 2)
    found = neck(visual, weights, edges)
    torch.testing.assert_close(found - visual, neck.message.bias.relu().expand(1, 2, 1, -1))
    found.sum().backward()
    assert not neck.gate.weight.grad.any()
    # Taken the other way round they are each other's only neighbour: all of its feature arrives.
    visual = visual.abs() * torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    neck.zero_grad()
    found = neck(visual, weights, edges)
    expected = neck.message(visual.flip(1)).relu()
    torch.testing.assert_close(found - visual, expected, atol=1e-4, rtol=1e-4)
    found.sum().backward()
    assert neck.gate.weight.grad.abs().max() < 1e-4  # epsilon of the softmax


def test_a_relation_of_a_phrase_to_itself():
    neck = build()
    visual, weights = make_inputs()
    edges = make_edges([(0, 2, 2)])
    gain = (neck(visual, weights, edges) - visual)[0]
    node = (weights[0, 2][:, None] * visual[0, 2]).sum(0)
    expected = weights[0, 2][:, None] * neck.message(node).relu()
    torch.testing.assert_close(gain[2], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('variant', ['code', 'paper'])
@pytest.mark.parametrize('attention', ['learned', 'uniform'])
def test_an_image_does_not_depend_on_the_others(variant, attention):
    neck = build(variant=variant, attention=attention)
    visual, weights = make_inputs()
    found = neck(visual, weights, make_edges())
    alone = neck(visual[2:, :2], weights[2:, :2], make_edges([(0, 0, 1)], 1, 2))
    torch.testing.assert_close(found[2, :2], alone[0])


def test_parameters_and_gradients_of_each_variant():
    """A checkpoint fits with learned and with uniform weights; only the first trains the gate."""
    visual, weights = make_inputs()
    edges = make_edges([(0, i, j) for i in range(5) for j in range(i)])
    learned, uniform = build(), build(attention='uniform')
    assert learned.state_dict().keys() == uniform.state_dict().keys()
    assert build(variant='paper').state_dict().keys() == {'message.weight', 'message.bias'}
    for neck in (learned, uniform):
        neck(visual, weights, edges).square().sum().backward()
        assert neck.message.weight.grad.any()
    assert learned.gate.weight.grad.any() and uniform.gate.weight.grad is None


@pytest.mark.parametrize('variant', ['code', 'paper'])
def test_mixed_precision(variant):
    neck = build(variant=variant)
    visual, weights = make_inputs()
    expected = neck(visual, weights, make_edges())
    with torch.autocast('cpu', torch.bfloat16):
        found = neck(visual, weights, make_edges())
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.05)
    found.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in neck.parameters())


@pytest.mark.parametrize('options', [dict(variant='gcn'), dict(attention='equal')])
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build(**options)
