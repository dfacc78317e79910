import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torchvision.ops import roi_align


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
    assert inputs['phrase_index'].tolist() == [[0, 0, 1, 2], [0, 1, 0, 0]]
    assert inputs['relations'].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert inputs['relation_targets'].tolist() == [[1, 0, 1], [0, 0, 0]]


def test_nothing_to_find_still_makes_a_batch():
    inputs = collate(sample('a', [], boxes=0), sample('b', [], boxes=0))
    assert inputs['boxes'].shape == (2, 1, 4) and not inputs['box_present'].any()
    assert inputs['phrase_ids'].shape == (2, 1, 1) and not inputs['phrase_present'].any()
    assert inputs['phrase_index'].shape == (2, 0)
    assert inputs['relations'].shape == (0, 3) and inputs['relation_targets'].shape == (0, 3)


def test_a_category_that_the_model_lacks_is_an_error():
    with pytest.raises(ValueError, match='category 3, the model has 3'):
        collate(sample('a', [[1], [2]], relations=[(0, 1, 'on', [3])]))


SOURCE = dict(backbone='abc')


def cached(name, boxes=2, size=(8, 12), source=SOURCE, **kwargs):
    """A sample of LoadRoIFeatures; features of box i are i, i."""
    result = sample(name, [[1]], boxes=boxes, **kwargs)
    result.set_metainfo(dict(img_shape=size))
    proposals = InstanceData(**dict(result.proposals.items()))
    proposals.features = torch.arange(boxes).view(-1, 1).expand(-1, 2).half()
    proposals.set_metainfo(dict(input_size=size, feature_file='f', feature_source=source))
    result.proposals = proposals
    return result


def build():
    mean = dict(mean=[1.0, 2.0, 3.0], std=[2.0] * 3, pad_size_divisor=2)
    return MODELS.build(dict(type='PhraseDataPreprocessor', **mean))


def test_cached_features_without_pictures():
    data = build()(dict(data_samples=[cached('a', 3), cached('b', 0)]))['inputs']
    assert data['rois'].dtype == torch.float32 and data['feature_source'] == ('f', SOURCE)
    assert data['rois'].tolist() == [[[0, 0], [1, 1], [2, 2]], [[0, 0]] * 3]
    assert data['box_present'].tolist() == [[True] * 3, [False] * 3]
    assert not {'images', 'pictures', 'feature_map'} & set(data)
    assert build()(dict(data_samples=[cached('b', 0)]))['inputs']['rois'].shape == (1, 1, 2)


def test_pictures_beside_cached_features_wait_until_they_are_needed():
    pictures = [torch.full((3, 5, 4), 7, dtype=torch.uint8), torch.ones(3, 4, 6, dtype=torch.uint8)]
    samples = [cached('a', size=(5, 4)), cached('b', size=(4, 6))]
    preprocessor = build()
    data = preprocessor(dict(inputs=pictures, data_samples=samples))['inputs']
    assert 'images' not in data and data['pictures'][0].dtype == torch.uint8
    images = preprocessor.stack(data['pictures'])
    assert images.shape == (2, 3, 6, 6) and images[0, :, 0, 0].tolist() == [3.0, 2.5, 2.0]
    assert not images[0, :, :, 4:].any()
    plain = [sample('a', [[1]], height=5), sample('b', [[1]], height=4)]
    live = preprocessor(dict(inputs=pictures, data_samples=plain))['inputs']['images']
    assert torch.equal(images, live)


def test_maps_of_different_sizes_read_alike_at_their_borders():
    """RoIAlign gives the same of a map alone and of one that is filled up beside a larger one."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(3, h, w, generator=generator).half() for h, w in ((5, 7), (9, 4), (9, 8))]
    samples = [cached(str(i)) for i in range(3)]
    data = build()(dict(inputs=maps, data_samples=samples))['inputs']['feature_map']
    assert data.shape == (3, 3, 9, 8) and data.dtype == torch.float32
    assert not data[0, :, 6:].any() and not data[1, :, :, 5:].any()
    for i, alone in enumerate(maps):
        height, width = (16.0 * side for side in alone.shape[1:])
        boxes = torch.tensor([[0.0, 0, width, height], [width / 2, 3, width, height]])
        for sampling_ratio in (0, 2):
            options = dict(output_size=7, spatial_scale=1 / 16, sampling_ratio=sampling_ratio)
            found = roi_align(data[i : i + 1], [boxes], aligned=True, **options)
            expected = roi_align(alone[None].float(), [boxes], aligned=True, **options)
            torch.testing.assert_close(found, expected)


def test_cached_features_that_do_not_fit_are_refused():
    preprocessor = build()
    turned = cached('a')
    turned.set_metainfo(dict(flip=True))
    for bad in (cached('a', size=(8, 12)), turned):
        bad.set_metainfo(dict(img_shape=(16, 24)) if not bad.get('flip') else {})
        with pytest.raises(ValueError, match='a was changed behind LoadRoIFeatures'):
            preprocessor(dict(data_samples=[cached('b'), bad]))
    with pytest.raises(ValueError, match='b has no cached features, but others of its batch have'):
        preprocessor(dict(data_samples=[cached('a'), sample('b', [[1]])]))
    other = cached('b', source=dict(backbone='x'))
    other.proposals.set_metainfo(dict(feature_file='g'))
    with pytest.raises(
        ValueError, match='RoI feature files f and g were made with different models'
    ):
        preprocessor(dict(data_samples=[cached('a'), other]))
