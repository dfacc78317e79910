"""Distillation losses by value (spec 3.2, P25, P26)."""

import math

import pytest
import torch
from mmdet.registry import MODELS

from mmvg.models.losses import match_width

COSINE, L1, MARGIN = 'CosineDistillLoss', 'L1DistillLoss', 'LargeMarginDistillLoss'
ALL = [COSINE, L1, MARGIN]


def build(kind, **kwargs):
    return MODELS.build(dict(type=kind, **kwargs))


def pair(rows=6, student=16, target=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, student, generator=generator),
        torch.randn(rows, target, generator=generator),
    )


def bins(d, width):
    """Row i averages the channels floor(i d / width) up to ceil((i + 1) d / width)."""
    matrix = torch.zeros(width, d)
    for i in range(width):
        begin, end = i * d // width, math.ceil((i + 1) * d / width)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


@pytest.mark.parametrize('d, widest', [(512, 2), (640, 3), (768, 3), (1024, 4)])
def test_pooling_is_the_explicit_bin_matrix(d, widest):
    """P25; spec 3.2, A4."""
    matrix = bins(d, 256)
    student, target = pair(5, 256, d)
    kept, pooled = match_width(student, target)
    torch.testing.assert_close(pooled, target @ matrix.T, atol=1e-6, rtol=0)
    assert kept is student
    used = (matrix > 0).sum(0)  # how many bins each channel is in
    assert (matrix > 0).sum(1).max() == widest and int((used == 2).sum()) == (d == 640) * 128
    assert torch.linalg.matrix_rank(matrix) == 256


def test_a_narrow_teacher_is_stretched_or_the_student_shrinks():
    """Loc. 3: 512 channels of CLIP against 768 of BERT (spec 3.4)."""
    student, target = pair(3, 768, 512)
    stretch = bins(512, 768)
    assert set((stretch > 0).sum(1).tolist()) == {1, 2}
    torch.testing.assert_close(match_width(student, target)[1], target @ stretch.T)
    shrink = student @ bins(768, 512).T
    for side in ('student', 'min'):
        torch.testing.assert_close(match_width(student, target, side), (shrink, target))
    torch.testing.assert_close(match_width(target, student, 'min'), (target, shrink))


def test_cosine_closed_forms():
    student = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    target = torch.tensor([[5.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]])
    rated = [0.0, 1.0, 2.0, 1 - math.sqrt(0.5)]
    for i, expected in enumerate(rated):
        loss = build(COSINE)(student[i : i + 1], target[i : i + 1])
        torch.testing.assert_close(loss, torch.tensor(expected))
    total = build(COSINE, loss_weight=1.5)(student, target)
    torch.testing.assert_close(total, torch.tensor(1.5 * sum(rated) / 4))


def test_cosine_is_half_the_squared_distance_of_directions():
    """Spec 3.2, A7 iii: |s - t|^2 = 2 (1 - cos) of unit vectors."""
    student, target = (torch.nn.functional.normalize(x) for x in pair(target=16))
    squared = (student - target).square().sum(-1).mean()
    torch.testing.assert_close(build(COSINE)(student, target), squared / 2)


def test_l1_closed_forms():
    student, target = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[0.0, 1.0], [0.0, 5.0]])
    torch.testing.assert_close(build(L1)(student, target), torch.tensor((0.6 + 0.2) / 2 / 2))
    raw = build(L1, normalize=False)(student, target)
    torch.testing.assert_close(raw, torch.tensor((3.0 + 3.0 + 0.0 + 3.0) / 2 / 2))


def plain_margin_loss(student, target, scale, margin):
    """CosFace over the batch, one number at a time."""
    total = 0.0
    for i, s in enumerate(student):
        logits, own = [], None
        for j, t in enumerate(target):
            if j != i and torch.equal(t, target[i]):
                continue  # the same picture or text is no negative
            cosine = float(s @ t) / float(s.norm() * t.norm())
            logits.append(scale * (cosine - (margin if j == i else 0.0)))
            if j == i:
                own = logits[-1]
        total += math.log(sum(math.exp(x) for x in logits)) - own
    return total / len(student)


@pytest.mark.parametrize('repeated', [False, True])
def test_margin_loss_equals_a_plain_loop(repeated):
    student, target = (x.double() for x in pair(target=16))
    if repeated:
        target[3] = target[1]
    loss = build(MARGIN, scale=8.0, margin=0.2)(student, target)
    expected = plain_margin_loss(student, target, 8.0, 0.2)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_margin_loss_without_negatives_is_zero():
    student, target = pair(rows=1)
    assert float(build(MARGIN)(student, target)) == 0.0


@pytest.mark.parametrize('kind', ALL)
@pytest.mark.parametrize('pool_side', ['teacher', 'student', 'min'])
def test_scale_does_not_matter_and_order_does(kind, pool_side):
    """P26."""
    student, target = pair()
    loss = build(kind, pool_side=pool_side)
    value = loss(student, target)
    for factor in (1e-3, 7.0, 1e4):
        torch.testing.assert_close(loss(student, factor * target), value)
        torch.testing.assert_close(loss(factor * student, target), value)
    order = torch.tensor([1, 2, 3, 4, 5, 0])
    torch.testing.assert_close(loss(student[order], target[order]), value)
    assert (loss(student, target[order]) - value).abs() > 1e-3


def test_raw_l1_does_depend_on_scale():
    student, target = pair()
    loss = build(L1, normalize=False)
    assert (loss(student, 2 * target) - loss(student, target)).abs() > 0.1


@pytest.mark.parametrize('kind', ALL)
def test_gradients_are_those_of_finite_differences(kind):
    student, target = (x.double().requires_grad_() for x in pair(3, 4, 6))
    loss = build(kind)
    # Without the cast to float32, so that the differences can be small.
    assert torch.autograd.gradcheck(lambda s, t: loss._rate(*match_width(s, t)), (student, target))


@pytest.mark.parametrize('kind', ALL)
def test_gradient_reaches_both_sides_and_lowers_the_loss(kind):
    """The target's is what an unfrozen teacher learns from (spec 3.2, A15)."""
    student, target = (x.requires_grad_() for x in pair())
    loss = build(kind)
    value = loss(student, target)
    value.backward()
    for side in (student, target):
        assert side.grad.abs().max() > 0
    with torch.no_grad():
        assert loss(student - 0.01 * student.grad, target - 0.01 * target.grad) < value


def test_cosine_gradient_turns_and_does_not_stretch():
    student, target = pair()
    student.requires_grad_()
    build(COSINE)(student, target).backward()
    along = (student.grad * student).sum(-1)
    torch.testing.assert_close(along, torch.zeros(len(student)), atol=1e-7, rtol=0)


@pytest.mark.parametrize('kind', ALL)
@pytest.mark.parametrize('side', ['student', 'target', 'both'])
def test_a_zero_vector_gives_no_nan_and_gets_no_gradient(kind, side):
    student, target = pair()
    if side != 'target':
        student[2] = 0
    if side != 'student':
        target[2] = 0
    student.requires_grad_(), target.requires_grad_()
    value = build(kind)(student, target)
    value.backward()
    for tensor in (value, student.grad, target.grad):
        assert tensor.isfinite().all()
    assert side == 'target' or not student.grad[2].any()
    assert side == 'student' or not target.grad[2].any()
    if kind == COSINE:
        student, target = student.detach(), target.detach()
        assert float(build(kind)(student[2:3], target[2:3])) == 1.0


@pytest.mark.parametrize('kind', ALL)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(kind, dtype):
    student, target = (100 * x.to(dtype) for x in pair())  # squares exceed what float16 holds
    student.requires_grad_()
    expected = build(kind)(student.float(), target.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = build(kind)(student, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    value.backward()
    assert student.grad.dtype == dtype and student.grad.isfinite().all()


@pytest.mark.parametrize('kind', ALL)
def test_avg_factor_replaces_the_number_of_rows(kind):
    """Processes with 2 and 4 of 6 queries, averaged, give the loss of all six."""
    student, target = pair()
    loss = build(kind, loss_weight=2.0)
    torch.testing.assert_close(
        loss(student, target, avg_factor=torch.tensor(12.0)), loss(student, target) / 2
    )
    if kind != MARGIN:  # its negatives are those of a process
        parts = [loss(student[p], target[p], avg_factor=3.0) for p in (slice(0, 2), slice(2, 6))]
        torch.testing.assert_close(sum(parts) / 2, loss(student, target))


def test_weight_zero_is_zero():
    assert float(build(COSINE, loss_weight=0.0)(*pair())) == 0.0


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match='pool_side must be one of'):
        build(COSINE, pool_side='both')
    student, target = pair()
    with pytest.raises(ValueError, match='as many rows'):
        build(COSINE)(student, target[1:])
    with pytest.raises(ValueError, match=r'student \(6, 1, 16\)'):
        build(COSINE)(student[:, None], target)
