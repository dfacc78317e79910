"""What the losses of ReIR read, and what they reach (spec reir 3.6, 8.5)."""

import pytest
import torch


class Untouchable:
    """Annotations of a training sample."""

    def __getattribute__(self, name):
        raise AssertionError(f'a weakly supervised loss must not read {name}')


def test_no_loss_reads_a_data_sample(reir):
    model = reir.build(refine='always')
    inputs = reir.collate(reir.usual_images())
    assert model.loss(inputs, [Untouchable()] * 3)['loss_recon_fine'] > 0
    assert model.loss(inputs, Untouchable())['loss_reg_coarse'] > 0


PARTS = dict(
    embedding='language_model.embedding',
    rnn='language_model.rnn',
    visual='bbox_head.visual_embedding',
    scorer='bbox_head.scorer',
    regressor='bbox_head.regressor',
    decoder='bbox_head.decoder',
    relation='bbox_head.relation_classifier',
    image='bbox_head.image_proj',
    caption='bbox_head.caption_proj',
    gate='neck.gate',
    message='neck.message',
)
FINE = {'embedding', 'rnn', 'visual', 'scorer', 'gate', 'message'}
REACHED = dict(
    recon_coarse={'embedding', 'rnn', 'visual', 'scorer', 'decoder'},
    recon_fine=FINE | {'decoder'},
    reg_coarse={'embedding', 'rnn', 'visual', 'regressor'},
    reg_fine=FINE | {'regressor'},  # the context of a box is weighted by its attention
    relation=FINE | {'relation'},
    rank_coarse={'embedding', 'rnn', 'visual', 'scorer', 'image', 'caption'},
    rank_fine=FINE | {'image', 'caption'},
)


def reached(model, loss):
    """Names of the parts that a loss has a gradient for."""
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    grads = torch.autograd.grad(
        loss, [model.get_parameter(n) for n in names], allow_unused=True, retain_graph=True
    )
    touched = [n for n, g in zip(names, grads, strict=True) if g is not None and g.any()]
    return {part for part, prefix in PARTS.items() if any(n.startswith(prefix) for n in touched)}


@pytest.mark.parametrize('refine', ['always', 'never'])
def test_gradient_map(reir, refine):
    """Spec 3.6; backbone and similarity tables: none (8.5, 3)."""
    model = reir.build(refine=refine)
    losses = model.loss(reir.collate(reir.related_images()), [])
    for name, expected in REACHED.items():
        assert reached(model, losses[f'loss_{name}']) == expected, name
    sum(losses.values()).backward()
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    assert not list(model.category_similarity.parameters())


@pytest.mark.parametrize('refine', ['always', 'never'])
@pytest.mark.parametrize('detach_boxes', [True, False])
def test_the_fine_regression_moves_the_coarse_offsets_only_on_request(reir, refine, detach_boxes):
    """Spec 3.2, A15; the features of refined boxes pass no gradient to them."""
    regression = dict(
        type='SelfTaughtRegressionLoss', score_gap=0.0, iou_thr=0.4, detach_boxes=detach_boxes
    )
    model = reir.build(refine=refine, loss_reg_fine=regression)
    deltas, match = [], model.bbox_head.match

    def remember(*args):
        found = match(*args)
        deltas.append(found['deltas'])
        return found

    model.bbox_head.match = remember
    losses = model.loss(reir.collate(reir.related_images()), [])
    for name in model.losses:
        grad = torch.autograd.grad(
            losses[f'loss_{name}'], deltas[0], allow_unused=True, retain_graph=True
        )[0]
        moved = grad is not None and bool(grad.any())
        through_boxes = name == 'reg_fine' and refine == 'always' and not detach_boxes
        assert moved == (name == 'reg_coarse' or through_boxes), name


def test_backbone_stays_frozen_and_in_evaluation_mode(reir):
    model = reir.build().train()
    assert model.training and model.bbox_head.training
    assert not any(m.training for m in model.backbone.modules())
    assert not any(p.requires_grad for p in model.backbone.parameters())
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    model.loss(reir.collate(reir.usual_images()), [])
    torch.testing.assert_close(model.backbone.state_dict(), before, rtol=0, atol=0)
