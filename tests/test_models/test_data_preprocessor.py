import pytest
import torch
from mmengine.dataset import pseudo_collate

from mmvg.models import GroundingDataPreprocessor
from mmvg.models.data_preprocessor import split_by_image


def test_queries_are_flattened_and_padded_to_the_longest(make_sample):
    batch = pseudo_collate([make_sample(0, [[2, 7, 3], [2, 3]]), make_sample(1, [[2, 8, 9, 3]])])
    inputs = GroundingDataPreprocessor(pad_token_id=1)(batch)['inputs']
    assert inputs['input_ids'].tolist() == [[2, 7, 3, 1], [2, 3, 1, 1], [2, 8, 9, 3]]
    assert inputs['text_padding_mask'].tolist() == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert inputs['image_index'].tolist() == [0, 0, 1]
    parts = split_by_image(inputs['input_ids'], batch['data_samples'])
    assert [len(p) for p in parts] == [2, 1] and parts[1][0, 1] == 8


def test_images_are_normalised_and_padding_is_zero_afterwards(make_sample):
    item = make_sample(0, [[2, 3]], content_box=(10, 20, 40, 64))
    image = item['inputs'].float()
    inputs = GroundingDataPreprocessor(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True)(
        pseudo_collate([item])
    )['inputs']
    mask = torch.ones(64, 64, dtype=torch.bool)
    mask[20:64, 10:40] = False
    assert torch.equal(inputs['image_padding_mask'][0], mask)
    mean, std = torch.tensor([[1.0, 2, 3], [4, 5, 6]]).view(2, 3, 1, 1)
    expected = (image.flip(0) - mean) / std
    assert torch.allclose(inputs['images'][0][:, ~mask], expected[:, ~mask])
    assert (inputs['images'][0][:, mask] == 0).all()


def test_smaller_images_of_a_batch_are_padding_too(make_sample):
    small, large = make_sample(0, [[2, 3]]), make_sample(1, [[2, 3]])
    small['inputs'] = small['inputs'][:, :40, :50]
    small['data_samples'].set_metainfo(dict(img_shape=(40, 50)))
    mask = GroundingDataPreprocessor()(pseudo_collate([small, large]))['inputs'][
        'image_padding_mask'
    ]
    assert mask.shape == (2, 64, 64) and not mask[1].any()
    assert (~mask[0]).sum() == 40 * 50 and not mask[0, :40, :50].any()


def test_a_tokenizer_that_does_not_fit_the_language_model_is_explained(tiny_model, make_sample):
    with pytest.raises(ValueError, match='id 64, the language model has 64'):
        tiny_model.data_preprocessor(pseudo_collate([make_sample(0, [[2, 64, 3]])]))
