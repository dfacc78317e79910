import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from mmdet.registry import MODELS
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel

QUERIES = [[2, 7, 8, 3], [2, 9, 3], [2, 10, 11, 12, 13, 3]]


@pytest.fixture
def config(tiny_config):
    """A QRNet for the 64 px canvas: maps of 32, 16, 8 and 4 tokens a side, 4 x 4 + 2 x 2 used."""
    gates = dict(text_channels=64, gate_cfg=dict(rank=6, reduction=4))
    tiny_config.type = 'QRNet'
    tiny_config.backbone = dict(
        type='QueryModulatedSwin',
        embed_dims=16,
        patch_size=2,
        strides=(2, 2, 2, 2),
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
        **gates,
    )
    tiny_config.neck = dict(
        type='QueryModulatedFPN', in_channels=[16, 32, 64, 128], out_channels=64, **gates
    )
    tiny_config.visual_encoder = dict(type='PyramidVisualEncoder', embed_dims=64)
    tiny_config.bbox_head.num_visual_tokens = 20
    return tiny_config


@pytest.fixture
def build(config, plain):
    """Function that builds it with initial weights; ``gates`` is the deviation of every V."""

    def make(gates=None, v_init=0.0, **kwargs):
        config.backbone.gate_cfg.v_init = config.neck.gate_cfg.v_init = v_init
        config.update(kwargs)
        torch.manual_seed(0)
        model = MODELS.build(config)
        model.init_weights()
        return (plain.randomise(model, gates) if gates else model).eval()

    return make


def prepare(model, items, training=False):
    return model.data_preprocessor(pseudo_collate(items), training)


def predict(model, items):
    with torch.no_grad():
        return [s.pred_instances.bboxes for s in model.test_step(pseudo_collate(items))]


def losses(model, items):
    return model(**prepare(model, items, True), mode='loss')


def encode(model, items):
    with torch.no_grad():
        return model.encode(prepare(model, items)['inputs'])


def test_k_queries_on_one_image_equal_k_samples(build, make_sample):
    model, seen = build(gates=1.0), []
    model.backbone.patch_embed.register_forward_hook(lambda _m, a, _out: seen.append(len(a[0])))
    whole = predict(model, [make_sample(0, QUERIES), make_sample(1, QUERIES[:1])])
    single = predict(model, [make_sample(0, [q]) for q in QUERIES] + [make_sample(1, QUERIES[:1])])
    assert torch.allclose(torch.cat(whole), torch.cat(single), atol=1e-4)
    assert seen == [2, 4] and [len(b) for b in whole] == [3, 1]


def test_gradients_of_grouped_samples_equal_those_of_single_ones(build, make_sample):
    model = build(gates=0.3)
    grouped = make_sample(0, QUERIES)
    singles = [make_sample(0, [q]) for q in QUERIES]
    for i, item in enumerate(singles):
        item['data_samples'].gt_instances = grouped['data_samples'].gt_instances[i : i + 1]
    gradients = []
    for items in ([grouped], singles):
        model.zero_grad()
        sum(losses(model, items).values()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, a in gradients[0].items():
        b = gradients[1][name]
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3, msg=lambda text, n=name: n + text)


@pytest.mark.parametrize('constant', [False, True])
def test_the_query_reaches_the_visual_tokens_unless_the_text_is_constant(
    build, make_sample, constant
):
    model = build(gates=1.0, constant_text=constant)
    tokens = encode(model, [make_sample(0, QUERIES)])['visual_tokens']
    difference = (tokens[1:] - tokens[:1]).abs().amax((1, 2))
    assert (difference < 1e-5).all() if constant else (difference > 0.1).all()
    boxes = predict(model, [make_sample(0, QUERIES)])[0]
    assert (boxes[1:] - boxes[0]).abs().amax() > 1e-3  # the fusion sees the query either way


def test_cls_of_the_last_layer_controls_every_gate(build, make_sample):
    """Spec 2.3: position 0, not normalised, not detached."""
    model, seen = build(gates=0.3), []
    for gate in (*model.backbone.gates, *model.neck.gates):
        gate.register_forward_hook(lambda _m, args, _out: seen.append(args[1]))
    tokens = model.encode(prepare(model, [make_sample(0, QUERIES)])['inputs'])
    assert len(seen) == 7
    assert all(torch.equal(text, tokens['text_tokens'][:, 0]) for text in seen)
    bert = model.language_model.bert.embeddings.word_embeddings.weight
    assert torch.autograd.grad(tokens['visual_tokens'].square().sum(), bert)[0].any()


def optimise(model, items, steps, **kwargs):
    """Loss of each step, and the largest gradient per parameter of each step."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, **kwargs)
    history, gradients = [], []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = sum(losses(model, items).values())
        loss.backward()
        optimiser.step()
        history.append(loss.item())
        gradients.append(
            {n: p.grad.abs().max().item() for n, p in model.named_parameters() if p.requires_grad}
        )
    return history, gradients


def first_layers(gradients):
    return [{n: g for n, g in step.items() if 'channel_mlp.0' in n} for step in gradients]


def test_the_released_form_trains_no_first_channel_layer(build, make_sample):
    """P18 on the whole model: 7 gates, gradients of exactly 0 in every step."""
    model = build().train()
    gradients = optimise(model, [make_sample(0, QUERIES)], 4, weight_decay=0.0)[1]
    for step in first_layers(gradients):
        assert len(step) == 21 and set(step.values()) == {0.0}
    first = [p for n, p in model.named_parameters() if n.endswith('channel_mlp.0.V')]
    assert len(first) == 7 and not any(v.any() for v in first)
    decoders = [n for n in gradients[0] if 'gates' in n and 'decoder' in n]
    assert not any(gradients[0][n] for n in decoders)  # spec 2.9, finding 4
    assert all(gradients[1][n] for n in decoders if 'channel_mlp.0' not in n)


def test_the_fixed_form_trains_all_from_the_second_step_on(build, make_sample):
    first, *later = first_layers(
        optimise(build(v_init=0.02).train(), [make_sample(0, QUERIES)], 4)[1]
    )
    assert set(first.values()) == {0.0}
    assert all(value > 0 for step in later for value in step.values())


def test_both_forms_start_alike(build, make_sample):
    """The start-up ratio of every gate is 1/4 in either form (spec 2.9)."""
    boxes = []
    for v_init in (0.0, 0.02):
        model, ratios = build(v_init=v_init), []
        for gate in (*model.backbone.gates, *model.neck.gates):
            gate.register_forward_hook(
                lambda _m, args, out, seen=ratios: seen.append(torch.equal(out, args[0] / 4))
            )
        boxes.append(predict(model, [make_sample(0, QUERIES[:1])])[0])
        assert ratios == [True] * 7


@pytest.mark.parametrize('constant', [False, True])
def test_gates_learn_in_the_model_and_in_its_control(build, make_sample, constant):
    """Otherwise a constant text would compare with a model whose gates cannot learn at all."""
    model = build(constant_text=constant).train()
    optimise(model, [make_sample(0, QUERIES)], 3)
    moved = [p.any() for n, p in model.named_parameters() if n.endswith(('mlp.1.V', 'spatial.V'))]
    assert len(moved) == 14 and all(moved)


def test_it_learns(build, make_sample):
    history, gradients = optimise(
        build(v_init=0.02).train(), [make_sample(i, QUERIES) for i in range(2)], 60
    )
    assert min(history[1:]) < 0.5 * history[0]
    unused = [n for n in gradients[0] if not any(step[n] for step in gradients)]
    assert unused == []


def test_padding_never_changes_a_box(build, make_sample):
    """P8. Swin itself sees the padding (spec 2.2), whose pixels are always the mean colour."""
    model, box = build(gates=1.0), (4, 12, 60, 52)
    item = make_sample(0, QUERIES[:2], content_box=box)
    boxes = predict(model, [item])[0]
    other = make_sample(0, QUERIES, content_box=box)  # the third query is longer
    other['inputs'] = other['inputs'].clone()
    other['inputs'][:, :12] = 255
    other['inputs'][:, :, 60:] = 7
    assert torch.allclose(predict(model, [other])[0][:2], boxes, atol=1e-4)
    tokens = encode(model, [item])
    mask = tokens['visual_padding_mask']
    fine, coarse = [True] * 4 + [True, False, False, False] * 3, [True, True, True, False]
    assert mask[0].tolist() == fine + coarse
    expected = model.bbox_head(**tokens)
    tokens['visual_tokens'][mask] = 100.0
    assert torch.equal(model.bbox_head(**tokens), expected)


def test_a_canvas_that_cannot_be_halved_is_explained(build, make_sample):
    item = make_sample(0, QUERIES)
    item['inputs'] = item['inputs'][:, :48]
    item['data_samples'].set_metainfo(dict(img_shape=(48, 64)))
    with pytest.raises(ValueError, match=r'48 x 64 pixels is not divisible by 32.*PlaceOnCanvas'):
        predict(build(), [item])


@pytest.mark.parametrize('part', ['backbone', 'neck'])
def test_text_width_that_does_not_match_is_explained(config, part):
    config[part].text_channels = 768
    message = rf'gives 64 channels, the gates of the {part} take 768; set {part}\.text_channels'
    with pytest.raises(ValueError, match=message):
        MODELS.build(config)


def test_frozen_parts_stay_as_they_are(build, make_sample):
    """A detector's weights can be frozen while the gates learn."""
    frozen = ['backbone.patch_embed', 'backbone.stages', 'language_model', 'neck.lateral_convs']
    model = build(v_init=0.02, frozen_modules=frozen).train()
    assert not model.backbone.stages.training and model.backbone.gates.training
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        sum(losses(model, [make_sample(0, QUERIES)]).values()).backward()
        optimiser.step()
    for name, value in model.state_dict().items():
        if name.startswith(tuple(frozen)):
            assert torch.equal(value, before[name]), name
        elif 'gates' in name:
            assert not torch.equal(value, before[name]), name


def test_copies_and_pickles_predict_the_same(build, make_sample):
    """Spec 2.8: the released module can be neither copied nor pickled."""
    model = build(gates=1.0)
    boxes = predict(model, [make_sample(0, QUERIES)])[0]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(predict(twin, [make_sample(0, QUERIES)])[0], boxes)


def test_mixed_precision_stays_close(build, make_sample):
    model = build(gates=0.5)
    data = prepare(model, [make_sample(0, QUERIES)])
    boxes = model(data['inputs'])
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.allclose(model(data['inputs']), boxes, atol=0.05)
        assert all(v.dtype == torch.float32 for v in model(**data, mode='loss').values())


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize('v_init, gates', [(0.0, True), (0.02, True), (0.0, False)])
def test_distributed_training_waits_for_no_unused_parameter(
    build, config, make_sample, process_group, v_init, gates
):
    """DDP refuses the second step if a parameter got no gradient in the first (spec 2.9, 7)."""
    for part in ('backbone', 'neck'):
        config[part].gate_cfg.update(use_channel=gates, use_spatial=gates)
    model = MMDistributedDataParallel(build(v_init=v_init).train(), find_unused_parameters=False)
    for _ in range(2):
        model.zero_grad()
        batch = prepare(model.module, [make_sample(0, QUERIES), make_sample(1, QUERIES[:1])], True)
        sum(model(**batch, mode='loss').values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
