"""ReIR on batches of unlike and odd images, with every option, in both precisions."""

import pytest
import torch


def finite(*tensors):
    return all(t is None or t.isfinite().all() for t in tensors)


ONE_STAGE = dict(
    stages=1,
    neck=None,
    **dict.fromkeys([f'loss_{n}' for n in ('recon_fine', 'reg_fine', 'rank_fine', 'relation')]),
)
# Every value of every option at least once.
OPTIONS = {
    'default': dict(),
    'release': dict(head=dict(max_over='zero_filled'), loss_scale=None),
    'paper': dict(
        head=dict(recon_weight='fine', fuse='score_product', combine='add_log', mask_zero=False),
        graph=dict(variant='paper'),
        loss_relation=dict(type='RelationLoss', mode='ce'),
    ),
    'mlp': dict(head=dict(scorer='mlp', regressor='visual', fuse='fine', spatial='box5')),
    'dot': dict(head=dict(scorer='dot', combine='none', fuse='coarse', spatial='grid98')),
    'no regression': dict(
        head=dict(regressor='none', separate_norm=True), loss_reg_coarse=None, loss_reg_fine=None
    ),
    'lstm': dict(head=dict(decoder_rnn='lstm'), text=dict(rnn='lstm', pool='sum')),
    'own norm': dict(head=dict(separate_norm=True), graph=dict(isolated_zero=True)),
    'layernorm': dict(head=dict(phrase_norm='layernorm', visual_norm='none')),
    'phrases only': dict(text=dict(context='phrase'), loss_rank_coarse=None, loss_rank_fine=None),
    'fallback': dict(similarity=dict(fallback=0.3), graph=dict(attention='uniform')),
    'cos mean': dict(similarity=dict(pool='cos_mean'), neck=None),
    'max': dict(similarity=dict(pool='max'), **ONE_STAGE),
    'kac': dict(
        **ONE_STAGE,
        head=dict(predict_places=True, share_embedding=False),
        loss_consistency=dict(type='VisualConsistencyLoss'),
    ),
    'nothing learned': dict(head=dict(scorer='none', combine='add_log'), reg_loss_start=9),
    'fused teacher': dict(
        head=dict(fine_conf='fused', share_embedding=False),
        graph=dict(gate_relu=False, residual=True),
        similarity=dict(norm_max=True),
        graph_edges='listed',
        relation_stages='both',
    ),
}


@pytest.mark.parametrize('refine, training', [('always', True), ('never', False)])
@pytest.mark.parametrize('name', OPTIONS)
def test_an_image_alone_gives_the_same_as_in_a_batch(reir, name, refine, training):
    """Losses (but for the ranking, which compares images), attention and boxes."""
    images = reir.usual_images() + reir.odd_images()
    model = reir.build(refine=refine, **OPTIONS[name]).train(training)
    batch = reir.collate(images, slots=3)
    together, boxes = reir.losses_per_image(model, batch), model.choose(batch)
    for b, image in enumerate(images):
        if name != 'default' and b not in (0, 1, 3, 6, 9):
            continue  # the other ones take time only
        alone, count = reir.collate([image]), len(image['spans'])
        for key, value in reir.losses_per_image(model, alone).items():
            if 'rank' not in key:
                torch.testing.assert_close(value[0], together[key][b], atol=2e-4, rtol=1e-3)
        found = model.choose(alone)
        for key, value in found.items():
            same = boxes[key][b][tuple(map(slice, value[0].shape))]  # without its empty slots
            torch.testing.assert_close(value[0, :count], same[:count], atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize('refine', ['always', 'never'])
@pytest.mark.parametrize('name', [*OPTIONS, 'batch norm'])
def test_odd_samples_break_nothing(reir, name, refine):
    """Losses and all gradients are finite, boxes lie in the image, and it trains on."""
    batch_norm = dict(head=dict(phrase_norm='batch_bn', visual_norm='batch_bn'))
    model = reir.build(refine=refine, **{**OPTIONS, 'batch norm': batch_norm}[name])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)
    images = reir.odd_images()
    # All of them, and for one set of options batches of one image.
    for batch in (images, *([image] for image in images if name == 'default')):
        inputs = reir.collate(batch)
        losses = model.train().loss(inputs, [])
        assert finite(*losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert finite(*(p.grad for p in model.parameters()))
        optimizer.step()
        boxes = model.eval().choose(inputs)['bboxes']
        assert boxes.shape[:2] == inputs['phrase_present'].shape
        assert finite(boxes) and boxes.min() >= 0 and boxes.max() <= reir.size
        assert (boxes[..., 2:] >= boxes[..., :2]).all()


def test_labels_of_empty_slots_do_not_count_for_the_fallback(reir):
    """They are 0, and category 0 may fit a phrase that no box of the image fits."""
    model = reir.build(similarity=dict(fallback=0.3))
    model.category_similarity.cosines.fill_(-1)[:, 0] = 1
    image = reir.make_image(0)
    image['labels'].clamp_(min=1)
    for slots in (0, 3):
        found = model.match(reir.collate([image], slots))['coarse']['similarity']
        assert found[0, :3, :8].eq(1).all()


@pytest.mark.parametrize('refine', ['always', 'never'])
def test_empty_slots_are_zeros_without_gradients(reir, refine):
    """And whatever a data preprocessor leaves there, nothing changes."""
    model = reir.build(refine=refine)
    inputs = reir.collate(reir.usual_images() + reir.odd_images(), slots=2)
    inputs['boxes'].requires_grad_()
    matched = model.match(inputs)
    absent = ~inputs['phrase_present']
    assert not matched['text']['phrases'][absent].any()
    for stage in ('coarse', 'fine'):
        found = matched[stage]
        assert finite(*(v for v in found.values() if v is not None))
        assert not found['feature'][absent].any() and not found['attention'][absent].any()
        assert not found['attention'][~found['present']].any()
    assert not matched['coarse']['visual'][:, 0][~inputs['box_present']].any()
    assert refine == 'never' or not matched['fine']['visual'][~matched['fine']['present']].any()
    losses = model.loss(inputs, [])
    sum(losses.values()).backward()
    grad = inputs['boxes'].grad
    assert grad is None or not grad[~inputs['box_present']].any()
    other = {k: v.detach().clone() for k, v in inputs.items()}
    other['boxes'][~inputs['box_present']] = torch.tensor([3.0, 5.0, 40.0, 44.0])
    other['labels'][~inputs['box_present']] = 3
    other['word_ids'][absent] = 2
    other['target_ids'][absent] = 4
    model = reir.build(refine=refine)
    for key, value in model.loss(other, []).items():
        torch.testing.assert_close(value, losses[key], msg=key)


def test_no_relations_and_no_phrases_in_the_whole_batch(reir):
    """All terms are there, as parts of the graph: replicas wait for the gradient of everything."""
    without = [reir.make_image(17, phrases=0), reir.make_image(19, phrases=0)]
    for images in ([reir.make_image(1), reir.make_image(2)], without):
        for slots in (0, 2):
            model = reir.build(refine='always')
            losses = model.loss(reir.collate(images, slots), [])
            assert losses.keys() == {f'loss_{name}' for name in model.losses}
            assert losses['loss_relation'] == 0
            sum(losses.values()).backward()
            for name, p in model.named_parameters():
                assert not p.requires_grad or p.grad is not None and finite(p.grad), name
            assert not any(p.grad.any() for p in model.bbox_head.relation_classifier.parameters())


def test_boxes_of_large_pictures_stay_where_they_are_in_mixed_precision(reir):
    """Near 900 px a bfloat16 number is a multiple of 4, so boxes must not be rounded like maps."""
    model = reir.build()
    ramp = torch.arange(256.0).expand(1, 16, 256, 256) / 8  # its slope shows where a box is
    boxes = torch.tensor([[[897.0, 10, 961, 90], [899.0, 10, 963, 90], [901.5, 10, 965.5, 90]]])
    there = torch.ones(1, 3, dtype=torch.bool)
    exact = model.extract_rois(ramp, boxes, there)
    found = model.extract_rois(ramp.bfloat16(), boxes, there)
    assert found.dtype == torch.bfloat16
    # A pixel is 1 / 32. A number near 29 is a multiple of 1 / 8 in bfloat16, 4 px: what is left is the
    # rounding of the result, no more.
    assert torch.equal(found, exact.bfloat16())
    pooled = []
    model.shared_head.register_forward_hook(lambda _, inputs, __: pooled.append(inputs[0]))
    with torch.autocast('cpu', torch.bfloat16):
        model.extract_rois(ramp, boxes, there)
    assert torch.allclose(pooled[0].float().mean((2, 3)), exact[0], atol=0.01)


@pytest.mark.parametrize('name', OPTIONS)
def test_mixed_precision(reir, half_precision, name):
    """Of bfloat16 on the CPU; losses stay near those of single precision."""
    inputs = reir.collate(reir.usual_images() + reir.odd_images())
    expected = reir.build(refine='always', **OPTIONS[name]).loss(inputs, [])
    model = reir.build(refine='always', **OPTIONS[name])
    with half_precision():
        losses = model.loss(inputs, [])
        boxes = model.choose(inputs)['bboxes']
    assert finite(boxes)
    for key, value in losses.items():
        assert value.dtype == torch.float32
        if 'reg' not in key:  # another teacher may be chosen
            torch.testing.assert_close(value, expected[key], atol=0.3, rtol=0.1, msg=key)
    sum(losses.values()).backward()
    assert finite(*(p.grad for p in model.parameters()))
