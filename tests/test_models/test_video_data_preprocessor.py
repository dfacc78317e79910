"""Which sentences are no negatives of each other's videos (spec vcma 1.7)."""

import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger


def samples_of(*given):
    parse = TRANSFORMS.build(dict(type='ParseQueries', predicates=['hold']))
    samples = []
    for video_id, segment, queries in given:
        parsed = parse(dict(queries=queries))['parsed']
        metainfo = dict(video_id=video_id, segment=segment, parsed=parsed)
        frames = torch.zeros(1, 3, 4, 4)
        samples.append(
            dict(inputs=dict(frames=frames), data_samples=DetDataSample(metainfo=metainfo))
        )
    return pseudo_collate(samples)


def test_segments_of_one_video_and_equal_sentences_are_no_negatives():
    samples = samples_of(
        ('a', (0, 50), ['a dog holds a ball', 'a cat sits']),
        ('a', (40, 90), ['a bird sings']),  # the dog and its ball may be there still
        ('b', (0, 50), ['a dog licks a cat', 'A dog holds a ball.']),
        ('c', (0, 50), ['a dog bites a cat']),  # verbs that are not listed differ, too
    )
    preprocess = MODELS.build(dict(type='VideoDataPreprocessor'))
    found = preprocess(samples)['inputs']['text']['not_negative']
    video = torch.tensor([0, 0, 0, 1, 1, 2])
    expected = video[:, None] == video
    expected[0, 4] = expected[4, 0] = True  # say the same
    assert torch.equal(found, expected & ~torch.eye(6, dtype=torch.bool))


def test_batches_without_a_negative_are_told_once(monkeypatch):
    told = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', told.append)
    preprocess = MODELS.build(dict(type='VideoDataPreprocessor'))
    same = [('a', (0, 50), ['a dog barks']), ('a', (50, 90), ['a cat sits'])]
    preprocess(samples_of(*same))  # answers need none
    preprocess(samples_of(*same, ('b', (0, 50), ['a cat runs'])), training=True)
    assert told == []
    for _ in range(2):
        preprocess(samples_of(*same), training=True)
    assert len(told) == 1 and 'batch_size' in told[0]
