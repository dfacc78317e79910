import pytest
import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torchvision.ops import generalized_box_iou

from mmvg.models import RegTokenHead


def head(**kwargs):
    torch.manual_seed(0)
    defaults = dict(
        visual_channels=16,
        text_channels=24,
        embed_dims=32,
        num_layers=2,
        num_heads=4,
        feedforward_channels=64,
        dropout=0.0,
        max_query_len=8,
        num_visual_tokens=9,
    )
    return RegTokenHead(**{**defaults, **kwargs})


def batch(text_len=5):
    generator = torch.Generator().manual_seed(1)
    text_mask = torch.zeros(3, text_len, dtype=torch.bool)
    text_mask[0, 3:] = True
    visual_mask = torch.zeros(2, 9, dtype=torch.bool)
    visual_mask[1, 6:] = True
    return dict(
        text_tokens=torch.randn(3, text_len, 24, generator=generator),
        text_padding_mask=text_mask,
        visual_tokens=torch.randn(2, 9, 16, generator=generator),
        visual_padding_mask=visual_mask,
        image_index=torch.tensor([0, 1, 1]),
    )


def test_padding_of_text_and_image_never_changes_a_box():
    model, tokens = head(), batch()
    boxes = model(**tokens)
    assert boxes.shape == (3, 4) and (0 < boxes).all() and (boxes < 1).all()
    longer = dict(
        tokens,
        text_tokens=torch.cat([tokens['text_tokens'], torch.full((3, 3, 24), 9.0)], 1),
        text_padding_mask=torch.cat([tokens['text_padding_mask'], torch.ones(3, 3).bool()], 1),
    )
    assert torch.allclose(model(**longer), boxes, atol=1e-6)
    noisy = dict(tokens, visual_tokens=tokens['visual_tokens'].clone())
    noisy['visual_tokens'][1, 6:] += 50
    assert torch.allclose(model(**noisy), boxes, atol=1e-6)


def test_each_query_sees_its_own_image_only():
    model, tokens = head(), batch()
    boxes = model(**tokens)
    other = dict(tokens, visual_tokens=tokens['visual_tokens'].clone())
    other['visual_tokens'][1] += 1
    changed = (model(**other) - boxes).abs().amax(1)
    assert changed[0] == 0 and (changed[1:] > 1e-6).all()


def test_losses_have_the_closed_form():
    """Spec 1.6, P12: plain L1 summed over coordinates and 1 - GIoU, averaged over queries."""
    generator = torch.Generator().manual_seed(2)
    boxes, targets = torch.rand(2, 50, 4, generator=generator)
    targets[0, 2:] = 0  # a target without area is legal
    losses = head().loss_by_boxes(boxes, targets)
    giou = generalized_box_iou(bbox_cxcywh_to_xyxy(boxes), bbox_cxcywh_to_xyxy(targets)).diag()
    assert torch.allclose(losses['loss_bbox'], (boxes - targets).abs().sum(1).mean(), atol=1e-6)
    assert torch.allclose(losses['loss_giou'], (1 - giou).mean(), atol=1e-5)


def test_smooth_l1_is_one_key_away_and_quadratic_here():
    boxes, targets = torch.rand(2, 50, 4, generator=torch.Generator().manual_seed(3))
    loss = head(loss_bbox=dict(type='SmoothL1Loss', beta=1.0)).loss_by_boxes(boxes, targets)[
        'loss_bbox'
    ]
    assert torch.allclose(loss, (0.5 * (boxes - targets) ** 2).sum(1).mean(), atol=1e-6)


def test_text_gain_scales_the_initial_projection_only():
    plain, loud = head(), head(text_gain=4.0)
    assert torch.equal(loud.text_proj.weight, 4 * plain.text_proj.weight)
    assert torch.equal(loud.text_proj.bias, 4 * plain.text_proj.bias)
    assert torch.equal(loud.visual_proj.weight, plain.visual_proj.weight)


def test_gradients_reach_every_parameter():
    model = head()
    losses = model.loss(torch.rand(3, 4), **batch(text_len=8))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(
        p.grad.abs().sum() > 0 for n, p in model.named_parameters() if 'in_proj_bias' not in n
    )


def test_boxes_stay_float32_under_autocast():
    model, tokens = head(), batch()
    with torch.autocast('cpu', torch.bfloat16):
        boxes = model(**tokens)
    assert boxes.dtype == torch.float32
    assert torch.allclose(boxes, model(**tokens), atol=0.05)


def test_lengths_that_do_not_fit_are_explained():
    with pytest.raises(ValueError, match='9 tokens but the head has positions for 8'):
        head()(**batch(text_len=9))
    with pytest.raises(ValueError, match='9 visual tokens but the head has positions for 16'):
        head(num_visual_tokens=16)(**batch())
    with pytest.raises(ValueError, match='trained with max_query_len 12'):
        head().load_state_dict(head(max_query_len=12).state_dict())
