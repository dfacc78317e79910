import copy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.dataset import pseudo_collate
from mmengine.model import ExponentialMovingAverage

from mmvg.structures import image_to_canvas

QUERIES = [[2, 7, 8, 3], [2, 9, 3], [2, 10, 11, 12, 13, 3]]


def predict(model, items):
    with torch.no_grad():
        return model.test_step(pseudo_collate(items))


def test_k_queries_on_one_image_equal_k_samples(tiny_model, make_sample):
    whole = predict(tiny_model, [make_sample(0, QUERIES), make_sample(1, QUERIES[:1])])
    single = predict(tiny_model, [make_sample(0, [q]) for q in QUERIES])
    boxes = torch.cat([s.pred_instances.bboxes for s in single])
    assert torch.allclose(whole[0].pred_instances.bboxes, boxes, atol=1e-5)
    assert whole[0].pred_instances.labels.tolist() == [0, 1, 2]
    assert whole[0].pred_instances.label_names == [str(q) for q in QUERIES]
    assert whole[0].pred_instances.scores.tolist() == [1, 1, 1]


def test_an_image_is_encoded_once_for_all_its_queries(tiny_model, make_sample):
    seen = []
    tiny_model.backbone.register_forward_hook(lambda _m, args, _out: seen.append(len(args[0])))
    predict(tiny_model, [make_sample(0, QUERIES), make_sample(1, QUERIES)])
    assert seen == [2]


def test_loss_of_grouped_samples_equals_the_loss_of_single_ones(tiny_model, make_sample):
    def losses(items):
        data = tiny_model.data_preprocessor(pseudo_collate(items), True)
        return tiny_model(**data, mode='loss')

    grouped = make_sample(0, QUERIES)
    singles = []
    for i, query in enumerate(QUERIES):
        item = make_sample(0, [query])
        item['data_samples'].gt_instances = grouped['data_samples'].gt_instances[i : i + 1]
        singles.append(item)
    for key, value in losses([grouped]).items():
        assert torch.allclose(value, losses(singles)[key], atol=1e-6)


def test_predictions_return_to_the_original_image(tiny_model, make_sample):
    matrix = np.array([[0.5, 0, 4], [0, 0.5, 8], [0, 0, 1]])
    item = make_sample(0, QUERIES, content_box=(4, 8, 60, 56), homography=matrix)
    item['data_samples'].set_metainfo(dict(ori_shape=(96, 112)))
    prediction = predict(tiny_model, [item])[0].pred_instances
    assert (prediction.bboxes >= 0).all() and (prediction.bboxes[:, 2] <= 112).all()
    unclipped = (prediction.canvas_bboxes - torch.tensor([4, 8, 4, 8])) * 2
    limits = torch.tensor([112.0, 96, 112, 96])
    assert torch.allclose(prediction.bboxes, unclipped.clamp(min=0).minimum(limits), atol=1e-4)
    inside = image_to_canvas(prediction.bboxes, item['data_samples'].metainfo)
    assert torch.allclose(inside, prediction.canvas_bboxes, atol=10)


def test_tensor_mode_needs_no_data_samples(tiny_model, make_sample):
    data = tiny_model.data_preprocessor(pseudo_collate([make_sample(0, QUERIES)]))
    boxes = tiny_model(data['inputs'])
    assert boxes.shape == (3, 4)
    canvas = predict(tiny_model, [make_sample(0, QUERIES)])[0].pred_instances.canvas_bboxes
    widths = canvas[:, 2] - canvas[:, 0]
    assert torch.allclose(boxes[:, 2] * 64, widths, atol=1e-4)


def step(model, items, optimiser):
    data = model.data_preprocessor(pseudo_collate(items), True)
    losses = model(**data, mode='loss')
    optimiser.zero_grad()
    sum(losses.values()).backward()
    optimiser.step()
    return sum(losses.values()).item()


def test_it_learns_and_every_part_gets_gradients(tiny_model, make_sample):
    model = tiny_model.train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    items = [make_sample(i, QUERIES) for i in range(2)]
    first = step(model, items, optimiser)
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    last = min(step(model, items, optimiser) for _ in range(40))
    assert last < 0.5 * first


def test_frozen_parts_stay_as_they_are(tiny_config, make_sample):
    tiny_config.frozen_modules = ['backbone', 'language_model']
    model = MODELS.build(tiny_config).train()
    assert not model.backbone.training and not model.language_model.training and model.neck.training
    before = copy.deepcopy(model.state_dict())
    step(model, [make_sample(0, QUERIES)], torch.optim.AdamW(model.parameters(), 1e-2))
    for name, value in model.state_dict().items():
        frozen = name.startswith(('backbone', 'language_model'))
        assert torch.equal(value, before[name]) == frozen or 'in_proj_bias' in name, name


def test_unknown_part_to_freeze_is_named(tiny_config):
    tiny_config.frozen_modules = ['bacbone']
    with pytest.raises(ValueError, match="'bacbone'.*'backbone'"):
        MODELS.build(tiny_config)


def test_mixed_precision_compile_and_ema(tiny_model, make_sample):
    items = [make_sample(0, QUERIES)]
    data = tiny_model.data_preprocessor(pseudo_collate(items), True)
    plain = tiny_model(data['inputs'])
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.allclose(tiny_model(data['inputs']), plain, atol=0.05)
        losses = tiny_model(**data, mode='loss')
    assert all(v.dtype == torch.float32 for v in losses.values())
    compiled = torch.compile(tiny_model, backend='eager')
    assert torch.allclose(compiled(data['inputs']), plain, atol=1e-5)
    average = ExponentialMovingAverage(tiny_model, momentum=0.5)
    assert torch.allclose(average(data['inputs']), plain, atol=1e-6)


def test_gradient_checkpointing_in_all_parts_gives_the_same_gradients(tiny_config, make_sample):
    gradients = []
    for with_cp in (False, True):
        for part in ('visual_encoder', 'language_model', 'bbox_head'):
            tiny_config[part].with_cp = with_cp
        torch.manual_seed(0)
        model = MODELS.build(tiny_config).train()
        data = model.data_preprocessor(pseudo_collate([make_sample(0, QUERIES)]), True)
        sum(model(**data, mode='loss').values()).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients))


def test_text_width_that_does_not_match_is_explained(tiny_config):
    tiny_config.bbox_head.text_channels = 768
    with pytest.raises(ValueError, match='gives 64 channels, the head takes 768'):
        MODELS.build(tiny_config)
