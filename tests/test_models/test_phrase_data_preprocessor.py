import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData


def sample(name, phrases, boxes=2, relations=(), height=8):
    caption = [i for p in phrases for i in p] or [9]
    spans, end = [], 0
    for p in phrases:
        spans.append((end, end + len(p)))
        end += len(p)
    result = DetDataSample(
        metainfo=dict(
            img_path=name,
            img_shape=(height, 12),
            queries=[str(p) for p in phrases],
            query_spans=spans,
            caption_ids=caption,
            phrase_ids=phrases,
            target_ids=[[i + 1 for i in p] for p in phrases],
            word_ids=[[-1] * len(p) for p in phrases],
            relations=list(relations),
        )
    )
    result.proposals = InstanceData(
        bboxes=torch.arange(4.0 * boxes).view(-1, 4),
        scores=torch.ones(boxes),
        labels=torch.arange(boxes) + 5,
    )
    return result


def collate(*samples, num_relations=3):
    preprocessor = MODELS.build(
        dict(type='PhraseDataPreprocessor', num_relations=num_relations, pad_size_divisor=2)
    )
    images = [torch.zeros(3, *s.img_shape, dtype=torch.uint8) for s in samples]
    return preprocessor(dict(inputs=images, data_samples=list(samples)))['inputs']


def test_shorter_samples_are_filled_up():
    inputs = collate(
        sample('a', [[1, 2], [3]], relations=[(0, 1, 'on', [0, 2])], height=7),
        sample('b', [[4, 5, 6]], boxes=1, relations=[(0, 0, 'is', [])]),
        sample('a', [[7]], boxes=0),
    )
    assert inputs['images'].shape == (3, 3, 8, 12)
    assert inputs['image_sizes'].tolist() == [[7, 12], [8, 12], [8, 12]]
    assert inputs['image_ids'].tolist() == [0, 1, 0]
    assert inputs['box_present'].tolist() == [[True, True], [True, False], [False, False]]
    assert inputs['labels'].tolist() == [[5, 6], [5, 0], [0, 0]]
    assert inputs['boxes'][0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert inputs['caption_ids'].tolist() == [[1, 2, 3], [4, 5, 6], [7, 0, 0]]
    assert inputs['spans'].tolist() == [[[0, 2], [2, 3]], [[0, 3], [0, 0]], [[0, 1], [0, 0]]]
    assert inputs['phrase_ids'][0].tolist() == [[1, 2, 0], [3, 0, 0]]
    assert inputs['target_ids'][1].tolist() == [[5, 6, 7], [0, 0, 0]]
    assert (inputs['word_ids'] == -1).all() and inputs['word_ids'].shape == (3, 2, 3)
    assert inputs['phrase_lengths'].tolist() == [[2, 1], [3, 0], [1, 0]]
    assert inputs['phrase_present'].tolist() == [[True, True], [True, False], [True, False]]
    assert inputs['relations'].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert inputs['relation_targets'].tolist() == [[1, 0, 1], [0, 0, 0]]


def test_nothing_to_find_still_makes_a_batch():
    inputs = collate(sample('a', [], boxes=0), sample('b', [], boxes=0))
    assert inputs['boxes'].shape == (2, 1, 4) and not inputs['box_present'].any()
    assert inputs['phrase_ids'].shape == (2, 1, 1) and not inputs['phrase_present'].any()
    assert inputs['relations'].shape == (0, 3) and inputs['relation_targets'].shape == (0, 3)


def test_a_category_that_the_model_lacks_is_an_error():
    with pytest.raises(ValueError, match='category 3, the model has 3'):
        collate(sample('a', [[1], [2]], relations=[(0, 1, 'on', [3])]))
