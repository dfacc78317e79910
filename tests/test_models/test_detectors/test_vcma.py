"""From packed samples to tubes (spec vcma 1.8)."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from numpy.testing import assert_allclose

import mmvg  # noqa: F401
from mmvg.models.detectors.vcma import _choose
from mmvg.models.layers.mean_field import Beliefs
from mmvg.structures.tubes import Tubes, describe_tubes


def model(**settings):
    torch.manual_seed(0)
    cfg = dict(
        type='VCMA',
        data_preprocessor=dict(type='VideoDataPreprocessor'),
        language_model=dict(type='HashedWordsEncoder', embed_dims=16),
        tube_head=dict(
            type='VideoTubeHead',
            text_dims=16,
            tube_dims=8,
            frame_dims=3,
            predicates=['chase'],
            embed_dims=16,
            relation_dims=8,
            num_heads=2,
        ),
        num_clips=4,
    )
    return MODELS.build(dict(cfg, **settings))


def sentence(entities, relations, target=0):
    return dict(
        entities=entities, relations=relations, target=target, meaning=f'{entities}{relations}'
    )


def sample(name, num_tubes, frame_ids, parsed, seed=0):
    rng = np.random.RandomState(seed)
    frames = len(frame_ids)
    corners = rng.rand(num_tubes, frames, 2).astype(np.float32) * 40
    tubes = Tubes(
        np.concatenate([corners, corners + 20], -1),
        np.tile(np.arange(num_tubes)[:, None], (1, frames)),
        np.ones(num_tubes),
    )
    features = list(rng.randn(frames, num_tubes, 3).astype(np.float32))
    found = describe_tubes(tubes, features, list(rng.randn(frames, 3)), (60, 80), 4)
    data_sample = DetDataSample(
        metainfo=dict(
            video_id=name,
            segment=(frame_ids[0], frame_ids[-1] + 3),
            frame_ids=np.array(frame_ids),
            height=60,
            width=80,
            queries=[' '.join(p['entities']) for p in parsed],
            parsed=parsed,
            tube_bboxes=found.pop('bboxes'),
        )
    )
    return dict(inputs={k: torch.from_numpy(v) for k, v in found.items()}, data_samples=data_sample)


@pytest.fixture
def samples():
    return [
        sample(
            'a',
            3,
            range(10, 90, 10),
            [
                sentence(['red ball', 'dog'], [(0, 1, 1)]),
                sentence(['object', 'dog', 'lawn'], [(1, 0, 0), (1, 1, 2)]),
            ],
        ),
        sample('b', 2, [5, 9], [sentence(['cat'], [])], seed=1),
        sample('c', 1, [7], [sentence(['cat', 'mat'], [(0, 1, -1)], target=1)], seed=2),
    ]


def run(net, samples, mode='predict'):
    return net(**net.data_preprocessor(pseudo_collate(samples), mode == 'loss'), mode=mode)


def test_collation(samples):
    net = model()
    text = net.data_preprocessor(pseudo_collate(samples))['inputs']['text']
    assert text['video_index'].tolist() == [0, 0, 1, 2]
    assert text['entity_present'].sum(1).tolist() == [2, 3, 1, 2]
    assert text['object'].tolist() == [[1, 3], [0, 2], [3, 3], [3, 3]]
    assert text['relation_present'].tolist() == [
        [True, False],
        [True, True],
        [False] * 2,
        [True, False],
    ]
    assert text['target'].tolist() == [0, 0, 0, 1]
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 1] = expected[1, 0] = True  # of one video
    assert torch.equal(text['not_negative'], expected)
    video = net.data_preprocessor(pseudo_collate(samples))['inputs']['video']
    assert video['tube_present'].sum(1).tolist() == [3, 2, 1]
    assert video['clip_present'].sum(1).tolist() == [4, 2, 1]


def test_sentences_that_say_the_same_are_no_negatives(samples):
    samples[1]['data_samples'].parsed[0].update(meaning='same')
    samples[2]['data_samples'].parsed[0].update(meaning='same')
    text = model().data_preprocessor(pseudo_collate(samples))['inputs']['text']
    assert text['not_negative'][2, 3] and text['not_negative'][3, 2]
    assert not text['not_negative'].diagonal().any()


@pytest.mark.parametrize('tied', [True, False])
def test_every_frame_of_the_segment_is_answered(samples, tied):
    net = model()
    net.tube_head.prior.tubes.tied = net.tube_head.posterior.tubes.tied = tied
    for answer in run(net.eval(), samples):
        begin, end = answer.segment
        assert answer.candidate_tubes.shape == (len(answer.tube_bboxes), end - begin, 4)
        for name in ('pred_tubes', 'p_tubes', 'q_tubes'):
            tubes = getattr(answer, name)
            assert len(tubes) == len(answer.queries)
            for tube in tubes:
                assert begin <= tube['span'][0] < tube['span'][1] <= end
                assert tube['bboxes'].shape == (end - begin, 4)
                if tube['tube'] >= 0:
                    assert_allclose(tube['bboxes'], answer.candidate_tubes[tube['tube']])
                assert 0 <= tube['score'] <= 1


def test_the_answer_is_the_best_tube_and_the_best_run_of_clips(samples):
    net = model(source='q').eval()
    tubes = torch.zeros(1, 2, 3, 1)
    tubes[0, 0, 2] = tubes[0, 1, 0] = 1
    beliefs = Beliefs(tubes, torch.tensor([[0.1, 0.9, 0.8, 0.2]]))
    net.tube_head.predict = lambda text, video: dict(p=beliefs, q=beliefs)
    samples[0]['data_samples'].parsed[1:] = []
    samples[0]['data_samples'].queries[1:] = []
    (answer,) = run(net, samples[:1])
    (tube,) = answer.pred_tubes
    assert tube['tube'] == 2
    assert tube['span'] == (30, 61)  # frames 30 to 60 are clips 1 and 2
    assert tube['score'] == pytest.approx(0.85)


def test_a_segment_is_chosen_by_its_own_probability():
    """Runs 0-0, 1-1 and 0-1 of two clips: the likeliest is not that of the largest expected IoU."""
    runs = torch.tensor([[0.4, 0.25, 0.35]])  # 0-0, 0-1, 1-1
    beliefs = Beliefs(torch.ones(1, 1, 1, 1), torch.tensor([[0.65, 0.6]]), runs)
    spans = {
        span: _choose(beliefs, torch.tensor([0]), span)['spans'].tolist()
        for span in ('likeliest', 'expected_iou')
    }
    # Expected IoU of 0-0: .4 + .25 / 2; of 0-1: .25 + .75 / 2; of 1-1: .35 + .25 / 2
    assert spans == dict(likeliest=[[0, 0]], expected_iou=[[0, 1]])


def test_a_video_is_answered_alone_as_in_a_batch(samples):
    net = model().eval()
    together = run(net, [*samples])
    for i in range(3):
        again = sample_again(i)
        (alone,) = run(net, [again])
        for a, b in zip(alone.pred_tubes, together[i].pred_tubes, strict=True):
            assert a['span'] == b['span'] and a['tube'] == b['tube']
            assert a['score'] == pytest.approx(b['score'], rel=1e-4)


def sample_again(i):
    parsed = [
        [
            sentence(['red ball', 'dog'], [(0, 1, 1)]),
            sentence(['object', 'dog', 'lawn'], [(1, 0, 0), (1, 1, 2)]),
        ],
        [sentence(['cat'], [])],
        [sentence(['cat', 'mat'], [(0, 1, -1)], target=1)],
    ][i]
    return sample('abc'[i], 3 - i, [range(10, 90, 10), [5, 9], [7]][i], parsed, seed=i)


@pytest.mark.parametrize('phase', ['warmup', 'E', 'M'])
def test_no_loss_reads_the_truth(samples, phase):
    """Spec 5 item 2: truth in the samples, garbage or nothing, the losses are the same bit for bit."""
    net = model()
    net.tube_head.phase = phase
    found = []
    for truth in (None, [dict(span=(0, 1), bboxes=np.zeros((1, 4)))] * 2, 'garbage'):
        for s in samples:
            s['data_samples'].set_metainfo(dict(tubes=truth))
        losses = run(net, samples, 'loss')
        found.append({k: v.item() for k, v in losses.items()})
    assert found[0] == found[1] == found[2]
    assert all(np.isfinite(v) for v in found[0].values())


@pytest.mark.parametrize(('phase', 'waits'), [('warmup', []), ('E', ['tolist']), ('M', [])])
def test_the_host_waits_for_the_gpu_in_the_e_phase_only(samples, host_waits, phase, waits):
    net = model()
    net.tube_head.phase = phase
    batch = net.data_preprocessor(pseudo_collate(samples), True)
    assert host_waits(lambda: net(**batch, mode='loss')) == waits


def test_frames_need_an_extractor(samples):
    samples[0]['inputs'] = dict(frames=[torch.zeros(3, 4, 4, dtype=torch.uint8)])
    with pytest.raises(ValueError, match='region_extractor'):
        run(model(), samples[:1])
    with pytest.raises(ValueError, match='source'):
        model(source='both')
