"""How ReIR behaves: stages, graph, refinement, predictions (spec reir 8.5)."""

import copy

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import InstanceData

from mmvg.structures import apply_deltas, clip_to_size

ONE_STAGE = dict(
    stages=1,
    neck=None,
    loss_recon_fine=None,
    loss_reg_fine=None,
    loss_rank_fine=None,
    loss_relation=None,
)
NO_FINE_LOSSES = {key: None for key in ONE_STAGE if key.startswith('loss')}


def test_without_similarities_all_phrases_attend_to_the_same_boxes(reir):
    """Spec 8.5, 1."""
    inputs = reir.collate([reir.make_image(0)])
    attention = {}
    for combine in ('none', 'product'):
        model = reir.build(head=dict(combine=combine))
        attention[combine] = model.match(inputs)['coarse']['attention'][0]
    torch.testing.assert_close(attention['none'], attention['none'][:1].expand(3, -1))
    assert not torch.allclose(attention['product'], attention['product'][:1].expand(3, -1))


@pytest.mark.parametrize('training', [True, False])
def test_two_stages_without_refinement_and_graph_agree(reir, training):
    """Spec 8.5, 2; the second one changes training only."""
    model = reir.build(refine='never', neck=None).train(training)
    inputs = reir.collate(reir.usual_images() + reir.odd_images())
    matched = model.match(inputs)
    coarse, fine = matched['coarse'], matched['fine']
    there = fine['present']
    scores = coarse['scores'].gather(2, fine['top'])
    torch.testing.assert_close(fine['scores'][there], scores[there])
    deltas = coarse['deltas'].gather(2, fine['top'].unsqueeze(-1).expand(-1, -1, -1, 4))
    torch.testing.assert_close(fine['deltas'][there], deltas[there])
    found = model.choose(inputs)
    for name in ('fine_bboxes', 'bboxes'):
        torch.testing.assert_close(found[name], found['coarse_bboxes'])
    again = model.match(inputs)['fine']['attention']
    kept = fine['similarity'].gt(0) & there
    logits = scores.masked_fill(~kept, -torch.inf)
    expected = logits.softmax(-1).nan_to_num(0)
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=0)


def test_the_graph_acts_on_captions_with_relations_only(reir):
    """Spec 8.5, 4."""
    inputs = reir.collate(reir.usual_images())
    with_graph, without = (reir.build(refine='never', **o).eval() for o in ({}, dict(neck=None)))
    without.load_state_dict(with_graph.state_dict(), strict=False)
    found, plain = with_graph.match(inputs)['fine'], without.match(inputs)['fine']
    for key in ('visual', 'attention', 'deltas', 'feature'):
        assert torch.equal(found[key][2], plain[key][2])
    assert not torch.allclose(found['feature'][0], plain['feature'][0])
    # Phrases 1 to 3 of image 1 have no relation: the bias leaks to them.
    with_graph.neck.message.bias.data.fill_(0.5)
    leak = with_graph.neck.message.bias.relu()
    seen, match = [], with_graph.bbox_head.match

    def remember(phrases, visual, *args):
        seen.append(visual)
        return match(phrases, visual, *args)

    with_graph.bbox_head.match = remember
    candidates = with_graph.match(inputs)['fine']
    gain = seen[1] - candidates['visual']
    expected = candidates['weight'][1, 1:4, :, None] * leak
    torch.testing.assert_close(gain[1, 1:4], expected, atol=1e-6, rtol=0)


def test_relations_connect_both_ways(reir):
    """Listed or not, twice or to itself."""
    relations = [(0, 1, (2,)), (2, 1, ()), (0, 1, (3,)), (2, 2, (1,))]
    inputs = reir.collate([reir.make_image(0), reir.make_image(1, relations=relations)])
    edges = reir.build()._edges(inputs)
    assert not edges[0].any()
    assert edges[1].int().tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 1]]


def test_group_size_changes_the_ranking_only(reir):
    """Spec 8.5, 5."""
    inputs = reir.collate(reir.usual_images())
    found = []
    for size in (None, 2):
        rank = dict(type='CaptionRankingLoss', group_size=size)
        found.append(reir.build(loss_rank_coarse=rank, loss_rank_fine=rank).loss(inputs, []))
    for key in found[0]:
        assert torch.equal(found[0][key], found[1][key]) == ('rank' not in key), key


def test_a_checkpoint_keeps_refinement_on(reir):
    """Spec 8.5, 7; boxes move after more than ``refine_start`` iterations."""
    inputs = reir.collate(reir.usual_images()[:1])
    model = reir.build(refine_start=2)
    refining = []
    for _ in range(4):
        refining.append(model.refining)
        model.loss(inputs, [])
    assert refining == [False, False, False, True] and model.iteration == 4
    model.eval().loss(inputs, [])
    model.predict(inputs, [make_sample(inputs, 0)])
    assert model.iteration == 4
    resumed = reir.build(refine_start=2).eval()
    assert not resumed.refining
    before = resumed.choose(inputs)['bboxes']
    resumed.load_state_dict(model.state_dict())
    assert resumed.refining
    torch.testing.assert_close(resumed.choose(inputs), model.choose(inputs))
    assert not torch.allclose(resumed.choose(inputs)['bboxes'], before)
    for refine, expected in (('always', True), ('never', False)):
        for iteration in (0, 9999):
            model = reir.build(refine=refine)
            model.set_iteration(iteration)
            assert model.refining == expected


@pytest.mark.parametrize('load', [torch.nn.Module.load_state_dict, load_state_dict])
def test_steps_are_counted_without_asking_the_device(reir, load):
    """The number that is asked follows the buffer: steps, loading (torch's, mmengine's), copies."""
    inputs = reir.collate(reir.usual_images()[:1])
    model = reir.build(refine_start=2, reg_loss_start=2)
    for _ in range(3):
        model.loss(inputs, [])
    assert model._steps == int(model.iteration) == 3
    other = reir.build(refine_start=2)
    load(other, model.state_dict())
    assert other._steps == int(other.iteration) == 3 and other.refining
    twin = copy.deepcopy(other)
    load(twin, reir.build().state_dict())
    assert twin._steps == int(twin.iteration) == 0 and other._steps == 3
    # An older checkpoint without the count leaves it as it is.
    state = model.state_dict()
    del state['iteration']
    twin.set_iteration(7)
    twin.load_state_dict(state, strict=False)
    assert twin._steps == int(twin.iteration) == 7
    # Numbers of the buffer are not read: a tensor without any would fail.
    model.iteration = model.iteration.to('meta')
    model.loss(inputs, [])
    assert model.refining and model._steps == 4


@pytest.mark.parametrize(('refine', 'stages'), [('never', 1), ('always', 2)])
def test_the_host_waits_for_the_gpu_once_per_look_at_boxes(reir, host_waits, refine, stages):
    inputs, model = reir.collate(reir.usual_images()), reir.build(refine=refine)
    assert host_waits(lambda: model.loss(inputs, [])) == ['nonzero'] * stages


def test_nothing_looks_at_pictures_if_categories_alone_decide(reir):
    """The answers are those of a model that looks and does not read what it sees."""
    head = dict(scorer='none', combine='add_log', regressor='none')
    losses = dict.fromkeys(f'loss_{n}' for n in ('recon_coarse', 'rank_coarse', 'reg_coarse'))
    inputs = reir.collate([*reir.usual_images(), *reir.odd_images()], slots=1)
    blind = reir.build(head=head, **(ONE_STAGE | losses)).eval()
    looking = reir.build(head=head, **(ONE_STAGE | dict(loss_reg_coarse=None))).eval()
    assert not blind.looks and looking.looks and reir.build().looks
    assert reir.build(head=head, stages=2, **(losses | NO_FINE_LOSSES)).looks  # the graph does
    torch.testing.assert_close(blind.choose(inputs), looking.choose(inputs), rtol=0, atol=0)
    del inputs['images']
    assert blind.choose(inputs)['bboxes'].any()
    with pytest.raises(KeyError, match='images'):
        looking.choose(inputs)


def test_refined_boxes_and_features(reir):
    """Offsets move the best K, within the image and no smaller than a pixel; features follow."""
    model = reir.build(refine='always', min_box_size=3.0).eval()
    model.bbox_head.regressor.out.bias.data.copy_(torch.tensor([0.0, 9.0, -30.0, 0.0]))
    inputs = reir.collate(reir.usual_images())
    inputs['image_sizes'] = torch.tensor([[40, 50], [64, 64], [30, 60]])
    matched = model.match(inputs)
    coarse, fine = matched['coarse'], matched['fine']
    pooled = model.extract_feat(inputs)
    for b, n in inputs['phrase_present'].nonzero().tolist():
        order = coarse['attention'][b, n].sort(descending=True, stable=True).indices[:4]
        assert fine['top'][b, n].tolist() == order.tolist()
        moved = apply_deltas(inputs['boxes'][b, order], coarse['deltas'][b, n, order])
        expected = clip_to_size(moved[None], inputs['image_sizes'][b : b + 1], 3.0)[0]
        torch.testing.assert_close(fine['boxes'][b, n], expected)
        sides = fine['boxes'][b, n, :, 2:] - fine['boxes'][b, n, :, :2]
        assert sides.min() >= 3 - 1e-4
        there = torch.ones(1, 4, dtype=torch.bool)
        rois = model.extract_rois(pooled[b : b + 1], expected[None], there)
        visual = model.bbox_head.embed_visual(rois, there)[0]
        torch.testing.assert_close(fine['visual'][b, n], visual, atol=1e-4, rtol=1e-4)
    assert (fine['weight'] == coarse['attention'].gather(2, fine['top'])).all()


@pytest.mark.parametrize('recon_weight', ['fused', 'fine'])
def test_what_the_fine_feature_is_weighted_by(reir, recon_weight):
    """A10; the graph is off so that the features of boxes are at hand."""
    model = reir.build(head=dict(recon_weight=recon_weight), neck=None)
    matched = model.match(reir.collate(reir.usual_images()))
    fine, coarse = matched['fine'], matched['coarse']
    weights = fine['attention']
    if recon_weight == 'fused':
        weights = weights * coarse['attention'].gather(2, fine['top'])
    expected = torch.einsum('bnk,bnkc->bnc', weights, fine['visual'])
    torch.testing.assert_close(fine['feature'], expected)
    expected = torch.einsum('bnm,bmc->bnc', coarse['attention'], coarse['visual'][:, 0])
    torch.testing.assert_close(coarse['feature'], expected)


def test_scale_of_the_losses(reir):
    """Ten times the mean over images, or their sum (A21)."""
    inputs = reir.collate(reir.usual_images())
    per_image = reir.losses_per_image(reir.build(), inputs)
    for scale in (None, 10.0, 1.0):
        for key, value in reir.build(loss_scale=scale).loss(inputs, []).items():
            expected = per_image[key].sum() * (1 if scale is None else scale / 3)
            torch.testing.assert_close(value, expected)


def test_terms_that_are_left_out(reir):
    inputs = reir.collate(reir.usual_images())
    one = reir.build(**ONE_STAGE)
    assert one.loss(inputs, []).keys() == {
        'loss_recon_coarse',
        'loss_reg_coarse',
        'loss_rank_coarse',
    }
    found = one.choose(inputs)
    assert torch.equal(found['bboxes'], found['coarse_bboxes'])
    assert torch.equal(found['bboxes'], found['fine_bboxes'])
    some = reir.build(loss_recon_coarse=None, loss_relation=None, loss_rank_fine=None)
    assert some.loss(inputs, []).keys() == {
        'loss_recon_fine',
        'loss_reg_coarse',
        'loss_reg_fine',
        'loss_rank_coarse',
    }


def make_sample(inputs, image, homography=None):
    count = int(inputs['phrase_present'][image].sum())
    queries = [f'query {i}' for i in range(count)]
    meta = dict(img_path='a.png', queries=queries, homography_matrix=homography)
    sample = DetDataSample(metainfo=meta)
    sample.proposals = InstanceData(bboxes=inputs['boxes'][image][inputs['box_present'][image]])
    return sample


@pytest.mark.parametrize('refine', ['always', 'never'])
def test_predictions_lie_in_the_original_image(reir, refine):
    """One box per query, none where there are no queries."""
    inputs = reir.collate([*reir.usual_images(), reir.make_image(17, phrases=0)])
    matrix = [[2.0, 0, 10], [0, 0.5, 0], [0, 0, 1]]
    samples = [make_sample(inputs, b, matrix) for b in range(4)]
    model = reir.build(refine=refine).eval()
    found = model.choose(inputs)
    for b, sample in enumerate(model(inputs, samples, mode='predict')):
        pred, count = sample.pred_instances, len(sample.queries)
        assert len(pred) == count and pred.label_names == sample.queries
        assert pred.labels.tolist() == list(range(count))
        torch.testing.assert_close(pred.canvas_bboxes, found['bboxes'][b, :count])
        torch.testing.assert_close(pred.scores, found['scores'][b, :count])
        scale, shift = torch.tensor([2, 0.5, 2, 0.5]), torch.tensor([10.0, 0, 10, 0])
        for name in ('bboxes', 'coarse_bboxes', 'fine_bboxes'):
            assert torch.allclose(pred[name] * scale + shift, found[name][b, :count], atol=1e-4)
    assert torch.equal(model(inputs, mode='tensor'), found['bboxes'])


def test_chosen_boxes_are_the_best_of_each_stage(reir):
    model = reir.build(refine='always').eval()
    inputs = reir.collate(reir.usual_images())
    matched, found = model.match(inputs), model.choose(inputs)
    coarse, fine = matched['coarse'], matched['fine']
    fused = coarse['attention'].gather(2, fine['top']) * fine['attention']
    for b, n in inputs['phrase_present'].nonzero().tolist():
        for name, stage, ranking in (
            ('coarse_bboxes', coarse, coarse['attention']),
            ('fine_bboxes', fine, fine['attention']),
            ('bboxes', fine, fused),
        ):
            best = int(ranking[b, n].argmax())
            box = stage['boxes'][b, 0 if stage is coarse else n, best]
            moved = apply_deltas(box[None], stage['deltas'][b, n, best][None])
            torch.testing.assert_close(found[name][b, n], moved[0].clamp(0, reir.size))
        assert found['scores'][b, n] == fused[b, n].max()


@pytest.mark.parametrize('refine', ['always', 'never'])
def test_all_proposals_come_with_the_answer(reir, refine):
    """Of a phrase's own offsets and attention, without the empty slots of the batch."""
    images = [*reir.usual_images(), *reir.odd_images()]
    inputs = reir.collate(images, slots=2)
    matrix = [[2.0, 0, 10], [0, 0.5, 0], [0, 0, 1]]
    samples = [make_sample(inputs, b, matrix) for b in range(len(images))]
    model = reir.build(refine=refine).eval()
    coarse = model.match(inputs)['coarse']
    scale, shift = torch.tensor([2, 0.5, 2, 0.5]), torch.tensor([10.0, 0, 10, 0])
    for b, sample in enumerate(model(inputs, samples, mode='predict')):
        pred, image = sample.pred_instances, images[b]
        phrases, proposals = len(image['spans']), len(image['boxes'])
        boxes = image['boxes'].expand(phrases, proposals, 4)
        if refine == 'always':
            deltas = coarse['deltas'][b, :phrases, :proposals]
            boxes = apply_deltas(boxes, deltas).clamp(0, reir.size)
        found = pred.proposal_bboxes * scale + shift
        torch.testing.assert_close(found, boxes, atol=1e-3, rtol=0)
        assert torch.equal(pred.proposal_scores, coarse['attention'][b, :phrases, :proposals])
        if phrases and proposals:
            best = pred.proposal_bboxes[range(phrases), pred.proposal_scores.argmax(1)]
            assert torch.equal(best, pred.coarse_bboxes)


def test_mistakes_in_a_config_are_named(reir):
    for option in ('graph_edges', 'relation_stages'):
        with pytest.raises(ValueError, match=option):
            reir.build(**{option: 'other'})
    with pytest.raises(ValueError, match='refine'):
        reir.build(refine='later')
    with pytest.raises(TypeError, match='loss_bbox'):
        reir.build(loss_bbox=dict(type='L1Loss'))
    with pytest.raises(ValueError, match='predict_places'):
        reir.build(loss_consistency=dict(type='VisualConsistencyLoss'))
    for stages in (0, 3, '2'):
        with pytest.raises(ValueError, match='stages must be one of'):
            reir.build(stages=stages)
    for part in ('neck', *NO_FINE_LOSSES):
        kept = {key: ONE_STAGE[key] for key in ONE_STAGE if key != part}
        with pytest.raises(ValueError, match=f'stages=1 has no use for {part}; set'):
            reir.build(**kept)
    with pytest.raises(
        ValueError, match='loss_recon_fine, loss_reg_fine, .*, neck; set them to None'
    ):
        reir.build(stages=1)
    for stage in ('coarse', 'fine'):
        only = {f'loss_reg_{s}': None for s in ('coarse', 'fine') if s != stage}
        with pytest.raises(ValueError, match=f"loss_reg_{stage} has no offsets .*regressor='none'"):
            reir.build(head=dict(regressor='none'), **only)


def test_regression_may_start_to_count_later(reir):
    """A13: nothing is learned from it before, yet the regressor has a gradient, which is 0."""
    inputs, usual = reir.collate(reir.usual_images()), reir.build(refine='never')
    expected = usual.loss(inputs, [])
    model = reir.build(refine='never', reg_loss_start=1)
    terms = 'loss_reg_coarse', 'loss_reg_fine'
    first = model.loss(inputs, [])
    assert all(first[k] == 0 and expected[k] > 0 for k in terms)
    sum(first.values()).backward()
    assert all(not p.grad.any() for p in model.bbox_head.regressor.parameters())
    second = model.loss(inputs, [])
    assert all(second[k] == usual.loss(inputs, [])[k] > 0 for k in terms)


@pytest.mark.parametrize('fine_conf', ['fine', 'fused'])
def test_who_teaches_the_fine_stage(reir, fine_conf):
    """A18: the attention of the second stage, or of both."""
    model = reir.build(refine='always', head=dict(fine_conf=fine_conf))
    seen = []
    model.losses['reg_fine'].register_forward_hook(lambda _, inputs, __: seen.append(inputs[2]))
    inputs = reir.collate(reir.usual_images())
    model.eval().loss(inputs, [])
    fine = model.match(inputs)['fine']
    weights = fine['weight'] if fine_conf == 'fused' else 1.0
    torch.testing.assert_close(seen[0], fine['attention'] * weights)


def test_only_relations_with_a_category_may_be_edges(reir):
    """A29."""
    relations = [(0, 1, (2,)), (2, 1, ())]
    inputs = reir.collate([reir.make_image(1, relations=relations)])
    edges = reir.build(graph_edges='listed')._edges(inputs)
    assert edges[0].int().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_relations_may_be_classified_in_both_stages(reir):
    """A28."""
    inputs = reir.collate(reir.related_images())
    model = reir.build(relation_stages='both').eval()
    matched = model.match(inputs)
    terms = [model._relation_loss(matched[s]['feature'], inputs) for s in ('coarse', 'fine')]
    torch.testing.assert_close(model.loss(inputs, [])['loss_relation'], 10 * sum(terms).mean())
    alone = reir.build().eval().loss(inputs, [])['loss_relation']
    torch.testing.assert_close(alone, 10 * terms[1].mean())


def test_the_decoder_may_have_words_of_its_own(reir):
    """A2: the phrase vocabulary's; those of the language model get no gradient through it."""
    model = reir.build(head=dict(share_embedding=False))
    inputs = reir.collate(reir.usual_images())
    inputs['target_ids'] = inputs['target_ids'].flip(0)  # of another vocabulary
    present = inputs['phrase_present']
    expected = model.bbox_head.decoder_embedding(inputs['target_ids'][present])
    torch.testing.assert_close(model._embed_words(inputs), expected)
    shared = reir.build()
    expected = shared.language_model.embedding(inputs['phrase_ids'][present])
    torch.testing.assert_close(shared._embed_words(inputs), expected)


def test_the_whole_picture_is_one_more_row(reir):
    """KAC Net: normalised with the proposals, without what the batch is filled up with."""
    model = reir.build(head=dict(predict_places=True), **ONE_STAGE)
    inputs = reir.collate([reir.make_image(0), reir.make_image(1, proposals=5)])
    height, width = inputs['images'].shape[-2:]
    inputs['image_sizes'][1] = torch.tensor([height // 2, width // 4])
    feature_map = model.extract_feat(inputs)
    pictures = model.extract_pictures(feature_map, inputs)
    rows, columns = feature_map.shape[-2] // 2, feature_map.shape[-1] // 4
    torch.testing.assert_close(pictures[0], feature_map[0].mean((1, 2)))
    torch.testing.assert_close(pictures[1], feature_map[1, :, :rows, :columns].mean((1, 2)))
    rois = model.extract_rois(feature_map, inputs['boxes'], inputs['box_present'])
    visual, picture = model.embed_proposals(rois, inputs, feature_map)
    assert visual.shape[:3] == (2, 1, 8)
    embedded = model.bbox_head.visual_embedding(torch.cat([rois[1, :5], pictures[1:]]))
    mean, var = embedded.mean(0), embedded.var(0, correction=0)
    expected = (embedded - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(visual[1, 0, :5], expected[:5], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(picture[1], expected[5], atol=1e-5, rtol=1e-4)
