"""Phrases grounded in two stages from proposals: hand-made boxes, and loops over random ones."""

import json
import multiprocessing

import pytest
import torch
from torch import distributed
from torchvision.ops import box_iou

from mmvg.evaluation import GroundingMetric, PhraseGroundingMetric

TRUE = [0, 0, 10, 10]
FAR = [50, 50, 60, 60]


def part(iou):
    """A box of this IoU with TRUE."""
    return [0, 0, 10, 10 * iou]


def sample(fused, coarse=None, fine=None, moved=None, attention=None, **options):
    """``moved`` K x M x 4 and ``attention`` K x M; further, what may differ from the usual."""
    fused = torch.tensor(fused, dtype=torch.float32).view(-1, 4)
    count = len(fused)
    coarse, fine = (
        fused if b is None else torch.tensor(b, dtype=torch.float32).view(-1, 4)
        for b in (coarse, fine)
    )
    attention = torch.tensor(attention) if attention else torch.zeros(count, 0)
    moved = torch.tensor(moved or [], dtype=torch.float32).view(*attention.shape, 4)
    truth = torch.tensor(options.pop('truth', [TRUE] * count), dtype=torch.float32).view(-1, 4)
    item = dict(
        dataset_name='val',
        img_id=1,
        img_path='a.jpg',
        queries=['q'] * count,
        ori_shape=(100, 100),
        batch_input_shape=(100, 100),
        gt_instances=dict(bboxes=truth),
        pred_instances=dict(
            bboxes=fused,
            canvas_bboxes=fused,
            scores=torch.ones(count),
            coarse_bboxes=coarse,
            fine_bboxes=fine,
            proposal_bboxes=moved,
            proposal_scores=attention,
        ),
        **options,
    )
    if 'proposals' in item:
        boxes = torch.tensor(item['proposals'], dtype=torch.float32).view(-1, 4)
        item['proposals'] = dict(bboxes=boxes)
    return item


def rate(samples, metric=PhraseGroundingMetric, **kwargs):
    metric = metric(**kwargs)
    metric.process({}, samples)
    found = metric.evaluate(len(samples))
    return {name.removeprefix('val/'): value for name, value in found.items()}


def test_stages_are_rated_apart_and_the_headline_is_what_they_agree_on():
    item = sample(
        fused=[part(0.75), FAR], coarse=[part(0.6), part(0.55)], fine=[[0, 0, 10, 40], FAR]
    )
    found = rate([item])
    expected = dict(
        [('acc@0.5', 50), ('acc@0.6', 50), ('acc@0.7', 50), ('acc@0.8', 0), ('miou', 37.5)]
        + [('coarse/acc@0.5', 100), ('coarse/acc@0.6', 50), ('coarse/acc@0.7', 0)]
        + [('coarse/miou', 57.5), ('coarse/point_it', 100), ('point_it', 50)]
        + [('fine/acc@0.5', 0), ('fine/miou', 12.5), ('fine/point_it', 0)]
    )
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    # The parent's figures are its own.
    plain = rate([item], GroundingMetric, iou_thrs=(0.5, 0.6, 0.7, 0.8))
    assert plain == {name: found[name] for name in plain}


def test_every_figure_has_its_name():
    item = sample([TRUE], moved=[[TRUE]], attention=[[1.0]], proposals=[TRUE], query_types=['a'])
    figures = {'acc@0.5', 'miou', 'point_it'}
    assert set(rate([item], iou_thrs=(0.5,))) == (
        figures
        | {f'{group}/{name}' for group in ('a', 'coarse', 'fine') for name in figures}
        | {'recall@5', 'recall@10', 'upper_bound@0.5', 'upper_bound_refined@0.5'}
    )


@pytest.mark.parametrize(
    'attention, recalled',
    [
        # IoUs are 0.1, 0.2, 0.6, 0.4, 0.9; is one of the best 1, 2, 3, 4, 9 right?
        ([0.5, 0.4, 0.3, 0.2, 0.1], (0, 0, 1, 1, 1)),
        ([0.5, 0.2, 0.2, 0.2, 0.1], (0, 1, 1, 1, 1)),  # all that share the second place
        ([0.2, 0.2, 0.2, 0.2, 0.2], (1, 1, 1, 1, 1)),
        ([0.6, 0.4, 0.0, 0.0, 0.0], (0, 0, 1, 1, 1)),  # attention for two only
        ([0.0, 0.0, 0.0, 0.0, 0.0], (1, 1, 1, 1, 1)),  # a phrase that fits no category
        ([0.3, 0.4, 0.05, 0.2, 0.05], (0, 0, 0, 1, 1)),
    ],
)
def test_recall_counts_ties(attention, recalled):
    moved = [[part(iou) for iou in (0.1, 0.2, 0.6, 0.4, 0.9)]]
    found = rate([sample([FAR], moved=moved, attention=[attention])], topk=(1, 2, 3, 4, 9))
    assert [found[f'recall@{k}'] for k in (1, 2, 3, 4, 9)] == [100 * r for r in recalled]


def test_recall_is_per_phrase_and_from_one_half_on():
    """The proposals of each phrase are moved by its own offsets."""
    moved = [[part(0.5), FAR], [part(0.5), FAR], [FAR, part(0.49)]]
    attention = [[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]
    item = sample([FAR] * 3, moved=moved, attention=attention)
    found = rate([item], topk=(1, 2))
    assert found['recall@1'] == pytest.approx(100 / 3, abs=1e-4)
    assert found['recall@2'] == found['upper_bound_refined@0.5'] == pytest.approx(200 / 3, abs=1e-4)
    assert rate([item], topk=(1, 2), strict=True)['recall@2'] == 0


def test_upper_bounds_of_raw_and_of_moved_proposals():
    item = sample(
        [FAR, FAR],
        moved=[[part(0.9), FAR], [FAR, part(0.6)]],
        attention=[[0.0, 1.0]] * 2,
        proposals=[part(0.55), FAR],
    )
    found = rate([item])
    raw, refined = (
        [found[f'{name}@{t}'] for t in (0.5, 0.6, 0.7, 0.8)]
        for name in ('upper_bound', 'upper_bound_refined')
    )
    assert raw == [100, 0, 0, 0] and refined == [100, 100, 50, 50]
    assert 'upper_bound@0.5' not in rate([sample([FAR])])


def test_an_image_without_proposals_and_one_without_phrases():
    one = sample([TRUE], moved=[[TRUE]], attention=[[1.0]], proposals=[TRUE])
    without = sample([TRUE], proposals=[])
    found = rate([one, without])
    for name in ('recall@5', 'upper_bound@0.5', 'upper_bound_refined@0.5'):
        assert found[name] == 50
    assert found['acc@0.5'] == 100
    assert rate([without])['recall@10'] == 0
    empty = sample([], truth=[], proposals=[TRUE])
    empty['pred_instances'].update(
        proposal_bboxes=torch.zeros(0, 3, 4), proposal_scores=torch.zeros(0, 3)
    )
    for batch in ([one, empty, without], [empty, one, without]):
        assert rate(batch) == found


def test_union_and_any_box():
    """Two right boxes, 0 to 10 and 20 to 30; the union of them reaches from 0 to 30."""
    pair, union = [TRUE, [20, 0, 30, 10]], [0, 0, 30, 10]
    options = dict(
        coarse=[union, FAR],
        fine=[[0, 0, 30, 9], TRUE],
        moved=[[FAR, [20, 0, 30, 8]], [union, FAR]],
        attention=[[0.9, 0.1], [0.9, 0.1]],
        truth=[union, TRUE],
    )
    boxes = [[20, 0, 30, 10], TRUE]
    names = ['acc@0.5', 'coarse/acc@0.5', 'fine/acc@0.5', 'recall@1', 'upper_bound_refined@0.5']
    found = rate([sample(boxes, **options, all_bboxes=[pair, [TRUE]])], topk=(1, 2))
    assert [found[name] for name in names] == [100, 0, 50, 0, 50]
    assert found['recall@2'] == 50
    found = rate([sample(boxes, **options)], topk=(1, 2))
    assert [found[name] for name in names] == [50, 50, 100, 0, 0]


def test_types_are_of_the_chosen_stage():
    item = sample([TRUE, FAR], coarse=[FAR, TRUE], fine=[FAR, FAR], query_types=['a', 'b'])
    for stage, expected in (('fused', (100, 0)), ('coarse', (0, 100)), ('fine', (0, 0))):
        found = rate([item], type_stage=stage)
        assert (found['a/acc@0.5'], found['b/acc@0.5']) == expected
        assert found['acc@0.5'] == 50


def test_strict_leaves_out_an_iou_of_exactly_the_threshold():
    """A38; the centre is not concerned."""
    item = sample([part(0.5)], moved=[[part(0.5)]], attention=[[1.0]], proposals=[part(0.5)])
    names = ('acc@0.5', 'coarse/acc@0.5', 'recall@5', 'upper_bound@0.5', 'upper_bound_refined@0.5')
    for strict, expected in ((False, 100), (True, 0)):
        found = rate([item], strict=strict)
        assert [found[name] for name in names] == [expected] * 5
        assert (found['miou'], found['point_it']) == (50, 100)
        assert rate([item], GroundingMetric, strict=strict)['acc@0.5'] == expected


def random_samples(number, seed=0, any_box=True):
    """Samples as unlike as they come: 1 to 4 phrases, 0 to 12 proposals, ties in the attention."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    def boxes(*shape):
        start = torch.rand(*shape, 2, generator=generator) * 20
        return torch.cat([start, start + 20 + torch.rand(*shape, 2, generator=generator) * 20], -1)

    items = []
    for index in range(number):
        phrases, proposals = draw(1, 5), draw(0, 13)
        ranks = torch.randint(0, 4, (phrases, proposals), generator=generator)
        item = sample(boxes(phrases).tolist(), *boxes(2, phrases).tolist())
        item['pred_instances'].update(
            proposal_bboxes=boxes(phrases, proposals), proposal_scores=ranks / 4
        )
        item.update(img_id=index, gt_instances=dict(bboxes=boxes(phrases)))
        item['proposals'] = dict(bboxes=boxes(proposals))
        if any_box and index % 3:
            item['all_bboxes'] = [boxes(draw(1, 4)).tolist() for _ in range(phrases)]
        items.append(item)
    return items


def test_as_a_loop_over_phrases_counts():
    items, hits, queries = random_samples(40), dict.fromkeys(('r3', 'raw', 'moved', 'fine'), 0), 0
    for item in items:
        prediction = item['pred_instances']
        for q, truth in enumerate(item['gt_instances']['bboxes'][:, None]):
            if 'all_bboxes' in item:
                truth = torch.tensor(item['all_bboxes'][q])
            scores, moved = prediction['proposal_scores'][q], prediction['proposal_bboxes'][q]
            queries += 1
            hits['fine'] += bool(
                (box_iou(prediction['fine_bboxes'][q : q + 1], truth) >= 0.6).any()
            )
            if len(moved):
                limit = sorted(scores, reverse=True)[:3][-1]
                best = moved[scores >= limit]
                hits['r3'] += bool((box_iou(best, truth) >= 0.5).any())
                hits['moved'] += bool((box_iou(moved, truth) >= 0.6).any())
                hits['raw'] += bool((box_iou(item['proposals']['bboxes'], truth) >= 0.6).any())
    found = rate(items, topk=(3,))
    names = dict(
        r3='recall@3', raw='upper_bound@0.6', moved='upper_bound_refined@0.6', fine='fine/acc@0.6'
    )
    for key, name in names.items():
        assert 0 < hits[key] < queries
        assert found[name] == pytest.approx(100 * hits[key] / queries, abs=1e-3)


def test_entries_are_small_and_a_dump_rates_the_same(tmp_path):
    item = sample([FAR, FAR], moved=[[TRUE] * 500] * 2, attention=[[0.1] * 500] * 2)
    metric = PhraseGroundingMetric()
    metric.process({}, [item])
    assert len(metric.results) == 1 and len(json.dumps(metric.results)) < 1500
    out_file = tmp_path / 'predictions.json'
    options = dict(iou_thrs=(0.3, 0.6), topk=(2,), strict=True, type_stage='coarse')
    found = rate(random_samples(9), out_file=str(out_file), **options)
    dump = json.loads(out_file.read_text())
    assert dump['meta']['metric'] == dict(
        type='PhraseGroundingMetric', strict=True, topk=[2], type_stage='coarse'
    )
    again = PhraseGroundingMetric(**options).compute_metrics(dump['samples'])
    assert {f'val/{name}': value for name, value in found.items()} == again


def evaluate_a_share(rank, world_size, size, folder):
    """As the test loop of one process: its samples and, to fill up, the first ones once more."""
    torch.set_num_threads(1)
    address = f'file://{folder}/{world_size}-{size}'
    distributed.init_process_group('gloo', address, rank=rank, world_size=world_size)
    items, metric = random_samples(size), PhraseGroundingMetric()
    padded = [*items, *items[: -size % world_size]]
    for item in padded[rank::world_size]:
        metric.process({}, [item])
    found = metric.evaluate(size)
    (folder / f'{world_size}-{size}-{rank}.json').write_text(json.dumps(found))


@pytest.mark.slow
@pytest.mark.parametrize('world_size, size', [(2, 7), (3, 7)])
def test_processes_together_count_every_sample_once(tmp_path, world_size, size):
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mmvg'])
    processes = [
        context.Process(target=evaluate_a_share, args=(rank, world_size, size, tmp_path))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * world_size
    expected = {f'val/{name}': value for name, value in rate(random_samples(size)).items()}
    for rank in range(world_size):
        found = json.loads((tmp_path / f'{world_size}-{size}-{rank}.json').read_text())
        assert found == expected


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match='protocol'):
        PhraseGroundingMetric(protocol='canvas')
    with pytest.raises(ValueError, match='type_stage must be one of'):
        PhraseGroundingMetric(type_stage='second')
    with pytest.raises(ValueError, match='topk'):
        PhraseGroundingMetric(topk=(0, 5))
    item = sample([TRUE])
    del item['pred_instances']['proposal_scores']
    with pytest.raises(ValueError, match='a.jpg: .* no proposal_scores.*rate other models with'):
        rate([item])
