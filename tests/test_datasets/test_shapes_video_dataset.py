import pickle
import random

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS

from mmvg.datasets import ShapesVideoDataset
from mmvg.datasets.shapes import CLASSES, PREDICATES, Video, render_scene, sample_video
from mmvg.datasets.shapes.scene import Scene, Shape
from mmvg.text.query_parser import QueryParser

COUNT = 160


@pytest.fixture(scope='module')
def dataset():
    return ShapesVideoDataset(num_videos=COUNT, test_mode=True)


@pytest.fixture(scope='module')
def records(dataset):
    return [dataset.get_data_info(i) for i in range(COUNT)]


def fitting(record, phrase):
    """Rows of ``tracks`` that an indefinite phrase could name."""
    words = phrase.replace('box', 'square').split()[1:]
    sizes = np.where((record['tracks'][:, 0, 2] - record['tracks'][:, 0, 0]) < 14, 'small', 'large')
    looks = [
        {*CLASSES[label].split(), size} for label, size in zip(record['labels'], sizes, strict=True)
    ]
    return [row for row, seen in enumerate(looks) if seen.issuperset(words)]


def test_sentences_follow_the_templates_and_name_the_target(records):
    for record in records:
        caption, *questions = record['queries']
        assert record['query_types'] == ['declarative'] + ['interrogative'] * len(questions)
        third, infinitive = PREDICATES[record['tubes'][0]['predicate']]
        subject, target = caption.removesuffix('.').split(f' {third} ')
        assert record['tubes'][0]['track'] in fitting(record, subject)
        for question, tube in zip(questions, record['tubes'][1:], strict=True):
            if question.startswith('what does '):
                phrase = question.removeprefix('what does ').removesuffix(f' {infinitive}?')
                assert tube['track'] in fitting(record, target)
                assert record['tubes'][0]['track'] in fitting(record, phrase)
            else:
                assert question.startswith(f'what {third} a ') and question.endswith('?')
                assert tube['track'] == record['tubes'][0]['track']


def test_tubes_are_rows_of_the_tracks_in_the_event(records):
    for record in records:
        assert record['tracks'].shape == (len(record['labels']), 32, 4)
        assert record['tracks'].min() >= 0 and record['tracks'].max() <= 64
        spans = {tube['span'] for tube in record['tubes']}
        (begin, end) = spans.pop()
        assert not spans and 8 <= end - begin <= 19 and 0 <= begin < end <= 32
        for tube in record['tubes']:
            assert (tube['bboxes'] == record['tracks'][tube['track'], begin:end]).all()


def test_sentences_parse_into_what_happens(records):
    """The query parser finds subject, predicate, object and what is asked for."""
    parse = QueryParser()
    for record in records:
        predicate = record['tubes'][0]['predicate']
        for query, kind in zip(record['queries'], record['query_types'], strict=True):
            parsed = parse(query)
            inverted = query.startswith('what does ')
            assert parsed.qtype == kind and parsed.target == 0 and len(parsed.entities) == 2
            expected = (int(inverted), predicate, int(not inverted), 'verb')
            assert [tuple(relation) for relation in parsed.relations] == [expected]


def test_noun_phrases_alone_are_mostly_not_enough(records):
    """VidSTG: 59-64 % of the items hold more than one object of the subject's category."""
    kinds = [[CLASSES[label].split()[-1] for label in r['labels']] for r in records]
    tracks = [r['tubes'][0]['track'] for r in records]
    several = [k.count(k[t]) > 1 for k, t in zip(kinds, tracks, strict=True)]
    assert np.mean(several) > 0.6
    alone = np.array([tube['alone'] for r in records for tube in r['tubes']])
    assert 0.1 < alone.mean() < 0.4
    for record in records:
        for query, tube in zip(record['queries'], record['tubes'], strict=True):
            if record['query_types'][0] == 'declarative' and query == record['queries'][0]:
                third, _ = PREDICATES[tube['predicate']]
                rows = fitting(record, query.split(f' {third} ')[0])
                assert tube['alone'] == (len(rows) == 1)


@pytest.mark.parametrize('predicate', PREDICATES)
@pytest.mark.parametrize('frames', [32, 64])
def test_the_relation_holds_in_the_event_and_only_there(predicate, frames):
    inside, outside = [], []
    for seed in range(12):
        video = sample_video(random.Random(seed), predicate, num_frames=frames)
        event = video.event
        seen = video.holding(predicate)[event.subject, event.target]
        inside.append(seen[event.begin : event.end].mean())
        outside += [*seen[: event.begin], *seen[event.end :]]
    assert min(inside) >= 0.7 and np.mean(inside) > 0.8
    assert np.mean(outside) < 0.2


def test_what_happens_looks_like_no_other_relation():
    for predicate in PREDICATES:
        shares = dict.fromkeys(PREDICATES, 0.0)
        for seed in range(8):
            video = sample_video(random.Random(seed), predicate)
            event = video.event
            for other in PREDICATES:
                seen = video.holding(other)[event.subject, event.target]
                shares[other] += seen[event.begin : event.end].mean() / 8
        own = shares.pop(predicate)
        assert own > max(shares.values()) + 0.2, (predicate, own, shares)


def test_every_sentence_means_one_pair_only(records, dataset):
    """No other pair that fits the words does the same."""
    for record in records:
        event = record['tubes'][0]
        share = record['video'].holding(event['predicate']).mean(-1)
        third, infinitive = PREDICATES[event['predicate']]
        everything = range(len(record['labels']))
        subject, target = event['track'], None
        for query, tube in zip(record['queries'], record['tubes'], strict=True):
            text = query.rstrip('.?')
            if text.startswith('what does '):
                names = fitting(record, text[len('what does ') : -len(infinitive) - 1]), everything
                target = tube['track']
            elif text.startswith('what '):
                names = everything, fitting(record, text.split(f' {third} ')[1])
            else:
                names = [fitting(record, phrase) for phrase in text.split(f' {third} ')]
            rivals = {(s, o) for s in names[0] for o in names[1] if s != o and share[s, o] > 0.1}
            assert len(rivals) == 1 and next(iter(rivals))[0] == subject
            assert target is None or (subject, target) in rivals


def test_the_whole_video_is_nearly_the_best_blind_span(dataset, records):
    spans = [tube['span'] for record in records for tube in record['tubes']]

    def rate(s, t):
        return np.mean([max(0, min(e, t) - max(b, s)) / (max(e, t) - min(b, s)) for b, e in spans])

    span, best = dataset.best_fixed_span()
    assert best == pytest.approx(rate(*span))
    assert rate(0, 32) <= best < rate(0, 32) + 0.06
    assert rate(8, 24) <= best


def test_boxes_frame_what_is_drawn():
    shape = Shape('square', 'red', 'plain', 'small', 0.0, 0.0, 6.0)
    centres = np.array([[[10.0, 12.0], [30.5, 20.5]]])
    video = Video(64, (shape,), centres, 5)
    for i, box in enumerate(video.tracks[0]):
        frame = video.frame(i)
        ys, xs = np.nonzero(frame[..., 2].astype(int) - frame[..., 0] > 60)
        seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert np.abs(np.array(seen) - box).max() <= 0.5
    still = Scene(64, (Shape('square', 'red', 'plain', 'small', 10.0, 12.0, 6.0),), 5)
    assert (video.frame(0) == render_scene(still)).all()


def test_shapes_move_smoothly(records):
    """Between frames, no box leaves more than three quarters of its place."""
    steps = np.concatenate(
        [np.abs(np.diff(r['tracks'], axis=1))[..., :2].max(-1).ravel() for r in records]
    )
    assert steps.max() < 10 and np.quantile(steps, 0.95) < 5
    assert len(records[0]['video']) == 32


def test_later_shapes_cover_earlier_ones(records):
    for record in records:
        if record['tubes'][0]['predicate'] == 'cover':
            begin, end = record['tubes'][0]['span']
            seen = record['video'].holding('cover')[record['tubes'][0]['track']]
            assert seen[: record['tubes'][0]['track'], begin:end].any(0).all()


def test_videos_follow_from_the_seed(dataset, records):
    first = ShapesVideoDataset(num_videos=3, test_mode=True)
    other = ShapesVideoDataset(num_videos=3, seed=1, test_mode=True)
    for i in range(3):
        again = first.get_data_info(i)
        assert again['queries'] == records[i]['queries'] != other.get_data_info(i)['queries']
        assert (first.render(i, [0, 9]) == dataset.render(i, [0, 9])).all()
    frames = dataset.render(0, range(32))
    assert frames.shape == (32, 64, 64, 3) and frames.dtype == np.uint8
    load = TRANSFORMS.build(dict(type='LoadVideoFrames'))
    loaded = load({**records[0], 'frame_ids': np.array([3, 31])})['frames']
    assert (np.stack(loaded) == frames[[3, 31]]).all()


def test_training_records_hold_nothing_to_learn_from(records):
    """Weak supervision: no boxes, spans, targets or predicates; the same videos and sentences."""
    weak = ShapesVideoDataset(num_videos=COUNT)
    for i, record in enumerate(records):
        info = weak.get_data_info(i)
        assert info['queries'] == record['queries']
        assert set(record) - set(info) == {'tubes', 'tracks', 'labels'}
        assert info['video'].event is None
        assert pickle.dumps(info['video'].frame(7)) == pickle.dumps(record['video'].frame(7))


def test_clear_sentences_can_be_rated_apart():
    settings = dict(num_videos=20, split_types=True, pipeline=[])
    dataset = ShapesVideoDataset(**settings, test_mode=True)
    for record in map(dataset.get_data_info, range(20)):
        for kind, tube in zip(record['query_types'], record['tubes'], strict=True):
            assert kind.split('_')[1] == ('clear' if tube['alone'] else 'unclear')
    kinds = {k for r in ShapesVideoDataset(**settings) for k in r['query_types']}
    assert kinds == {'declarative', 'interrogative'}  # that is truth


def test_options(dataset):
    long = ShapesVideoDataset(
        num_videos=6,
        num_frames=64,
        num_questions=(0, 0),
        num_shapes=(3, 3),
        predicates=['chase'],
        test_mode=True,
    )
    for i in range(6):
        record = long.get_data_info(i)
        assert record['segment'] == (0, 64) and len(record['queries']) == 1
        assert record['tubes'][0]['predicate'] == 'chase' and len(record['tracks']) == 3
    apart = ShapesVideoDataset(num_videos=COUNT, max_queries=1, test_mode=True)
    assert len(apart) == sum(len(dataset.get_data_info(i)['queries']) for i in range(COUNT))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(predicates=['eat']), r"unknown predicates \['eat'\]"),
        (dict(num_frames=8), 'at least 4 of 8'),
        (dict(event_share=(0.5, 0.2)), 'event_share'),
        (dict(num_questions=(1, 3)), 'at most 2 questions'),
    ],
)
def test_impossible_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        ShapesVideoDataset(num_videos=1, **options)
