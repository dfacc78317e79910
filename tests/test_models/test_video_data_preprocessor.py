"""Which sentences are no negatives of each other's videos (spec vcma 1.7)."""

import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate


def test_segments_of_one_video_and_equal_sentences_are_no_negatives():
    parse = TRANSFORMS.build(dict(type='ParseQueries', predicates=['hold']))
    given = [
        ('a', (0, 50), ['a dog holds a ball', 'a cat sits']),
        ('a', (40, 90), ['a bird sings']),  # the dog and its ball may be there still
        ('b', (0, 50), ['a dog licks a cat', 'A dog holds a ball.']),
        ('c', (0, 50), ['a dog bites a cat']),  # verbs that are not listed differ, too
    ]
    samples = []
    for video_id, segment, queries in given:
        parsed = parse(dict(queries=queries))['parsed']
        metainfo = dict(video_id=video_id, segment=segment, parsed=parsed)
        frames = torch.zeros(1, 3, 4, 4)
        samples.append(
            dict(inputs=dict(frames=frames), data_samples=DetDataSample(metainfo=metainfo))
        )
    preprocess = MODELS.build(dict(type='VideoDataPreprocessor'))
    found = preprocess(pseudo_collate(samples))['inputs']['text']['not_negative']
    video = torch.tensor([0, 0, 0, 1, 1, 2])
    expected = video[:, None] == video
    expected[0, 4] = expected[4, 0] = True  # say the same
    assert torch.equal(found, expected & ~torch.eye(6, dtype=torch.bool))
