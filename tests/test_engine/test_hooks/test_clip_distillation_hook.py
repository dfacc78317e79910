"""The distillation hook: on TransVG and QRNet, on a detector of mmdet, alone and under a runner."""

from types import SimpleNamespace

import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import DATASETS, HOOKS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmvg.datasets.transforms import AddTeacherView
from mmvg.engine import CLIPDistillationHook

TEACHER = dict(
    type='OpenCLIPTeacher',
    config=dict(
        embed_dim=96,
        vision_cfg=dict(image_size=32, patch_size=16, width=32, layers=1, head_width=16),
        text_cfg=dict(
            context_length=20, vocab_size=64, width=32, heads=2, layers=1, pool_type='eos', eos_id=3
        ),
    ),
    pretrained=None,
    tokenizer='builtin:shapes',
)
LOCATIONS = {
    1: ('bbox_head.fusion', 'bbox_head.fusion'),
    2: ('bbox_head.visual_proj', 'bbox_head.text_proj'),
    3: ('visual_encoder', 'language_model'),
    4: ('backbone', 'language_model.bert.embeddings'),
}


def hook_config(location=1, token='first_patch', **kwargs):
    image, text = LOCATIONS[location]
    taps = dict(image_tap=dict(module=image, token=token), text_tap=dict(module=text, token='cls'))
    return {'type': 'CLIPDistillationHook', 'teacher': TEACHER, **taps, **kwargs}


@pytest.fixture(scope='module')
def load(repository):
    return lambda name: Config.fromfile(repository / f'configs/{name}.py')


@pytest.fixture
def batch(load):
    """Two scenes, the second on a canvas whose left and upper parts are padding."""
    cfg = load('transvg/transvg_shapes').val_dataloader.dataset
    dataset = DATASETS.build({**cfg, 'num_scenes': 2})
    items = [dataset[0], dataset[1]]
    items[1]['data_samples'].set_metainfo(dict(content_box=(20, 10, 64, 64)))
    return items


@pytest.fixture
def distil(load, batch):
    """Function that runs one training step under a hook; gives losses, model, hook and inputs."""

    def run(config, name='transvg/transvg_shapes', **head):
        torch.manual_seed(0)
        cfg = load(name).model
        cfg.bbox_head.update(head)
        model = MODELS.build(cfg)
        model.init_weights()
        model.train()
        hook = HOOKS.build(config)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
        runner = SimpleNamespace(
            model=model, optim_wrapper=OptimWrapper(optimizer), param_schedulers=[], _resume=False
        )
        hook.before_run(runner)
        hook.before_train(runner)
        data = model.data_preprocessor(pseudo_collate(batch), True)
        losses = model(**data, mode='loss')
        hook.after_train(runner)
        return SimpleNamespace(losses=losses, model=model, hook=hook, runner=runner, **data)

    return run


def full_sequence(step):
    """All rows of the last fusion layer, text, image parts, and masks, without the hook."""
    rows = []
    fusion = step.model.bbox_head.fusion
    forward = fusion.forward
    fusion.forward = lambda tokens, pos, mask, rows_=None, **_: (
        rows.append((forward(tokens, pos, mask), mask)) or rows[0][0]
    )
    with torch.no_grad():
        step.model(**dict(inputs=step.inputs, data_samples=step.data_samples), mode='loss')
    fusion.forward = forward
    sequence, mask = rows[0]
    parts = step.model.bbox_head.sequence_parts(sequence.shape[1])
    return sequence, mask, parts


def image_targets(step):
    model, index = step.model, step.inputs['image_index']
    pixels = step.inputs['images'] * model.data_preprocessor.std + model.data_preprocessor.mean
    return step.hook.teacher.encode_images(pixels, step.inputs['image_padding_mask'])[index]


def cosine_loss(student, target):
    return (
        1 - F.cosine_similarity(student, F.adaptive_avg_pool1d(target, student.shape[1]))
    ).mean()


@pytest.mark.parametrize('token', ['first_patch', 'first_valid', 'mean_valid', 'mean', 'learnable'])
def test_location_1_distils_the_tokens_of_the_last_fusion_layer(distil, token):
    """Eq. 5-7 on the sequence [REG, (VLS), text, visual] (spec 3.4)."""
    step = distil(hook_config(token=token), learnable_vls=token == 'learnable')
    sequence, mask, parts = full_sequence(step)
    visual, valid = sequence[:, parts['visual']], ~mask[:, parts['visual']]
    rows = torch.arange(len(visual))
    expected = {
        'first_patch': lambda: visual[:, 0],
        'first_valid': lambda: visual[rows, [v.nonzero()[0, 0] for v in valid]],
        'mean_valid': lambda: torch.stack([t[v].mean(0) for t, v in zip(visual, valid)]),
        'mean': lambda: visual.mean(1),
        'learnable': lambda: sequence[:, 1],
    }[token]()
    loss = 1.5 * cosine_loss(expected, image_targets(step))
    torch.testing.assert_close(step.losses['loss_distill_image'], loss, atol=1e-5, rtol=1e-4)
    texts = step.hook.teacher.encode_texts([q for s in step.data_samples for q in s.queries])
    loss = 2 * cosine_loss(sequence[:, parts['text']][:, 0], texts)
    torch.testing.assert_close(step.losses['loss_distill_text'], loss, atol=1e-5, rtol=1e-4)


def test_what_is_logged_and_what_is_summed(distil):
    step = distil(hook_config())
    index = step.inputs['image_index']
    assert step.losses['distill_image_padding'] == (index == 1).float().mean()  # spec 3.3
    sequence, _, parts = full_sequence(step)
    student, target = sequence[:, parts['visual']][:, 0], image_targets(step)
    pooled = F.adaptive_avg_pool1d(target, student.shape[1])
    cosines = F.cosine_similarity(student, pooled)
    torch.testing.assert_close(step.losses['distill_image_cos'], cosines.mean(), atol=1e-5, rtol=0)
    first = {image: index.tolist().index(image) for image in (0, 1)}
    of_other = pooled[[first[1 - image] for image in index.tolist()]]
    other = F.cosine_similarity(student, of_other).mean()
    torch.testing.assert_close(step.losses['distill_image_cos_other'], other, atol=1e-5, rtol=0)
    total, _ = step.model.parse_losses(step.losses)
    summed = sum(v for k, v in step.losses.items() if k.startswith('loss'))
    torch.testing.assert_close(total, summed)


def test_one_picture_has_no_other_to_compare_with(distil, batch):
    """Neither several queries of one picture nor as many rows of the same."""
    del batch[1]
    losses = distil(hook_config()).losses
    assert 'distill_image_cos' in losses and 'distill_text_cos' in losses
    assert not any('other' in name for name in losses)


@pytest.mark.parametrize('location', [1, 2, 3, 4])
def test_mean_of_the_text_leaves_padding_out(distil, location):
    """Queries padded by four more rows give the same token, whether that is the last or not."""
    config = hook_config(location, alpha=0)
    config['text_tap']['token'] = 'mean'
    step = distil(config)
    step.model.eval().requires_grad_(False)  # no dropout
    (tap,) = step.hook.taps.values()
    tap.attach(step.model)
    tokens = []
    for more in (0, 4):
        inputs = dict(step.inputs)
        inputs['input_ids'] = F.pad(inputs['input_ids'], (0, more))
        inputs['text_padding_mask'] = F.pad(inputs['text_padding_mask'], (0, more), value=True)
        tap.listening = True
        step.model(inputs=inputs, data_samples=step.data_samples, mode='loss')
        tokens.append(tap.take(inputs)[0])
    torch.testing.assert_close(*tokens, atol=1e-5, rtol=1e-4)


PARTS = ('backbone', 'neck', 'visual_encoder', 'language_model.bert', 'bbox_head.fusion')


@pytest.mark.parametrize(
    'location, image, text',
    [
        (1, PARTS, PARTS),
        (2, PARTS[:3] + ('bbox_head.visual_proj',), (PARTS[3], 'bbox_head.text_proj')),
        (3, PARTS[:3], (PARTS[3],)),
        (4, PARTS[:1], ('language_model.bert.embeddings',)),
    ],
)
def test_gradients_reach_what_lies_before_the_tap(distil, location, image, text):
    for kind, reached in (('image', image), ('text', text)):
        step = distil(hook_config(location))
        step.losses[f'loss_distill_{kind}'].backward()
        with_gradient = [
            n for n, p in step.model.named_parameters() if p.grad is not None and p.grad.any()
        ]
        assert all(any(n.startswith(part) for n in with_gradient) for part in reached)
        stray = [n for n in with_gradient if not n.startswith(tuple(reached))]
        if location > 1:
            assert stray == []
        assert not any(n.startswith('bbox_head.box_mlp') for n in with_gradient)


def test_one_modality_alone(distil):
    assert 'loss_distill_text' not in distil(hook_config(beta=0)).losses
    assert 'loss_distill_image' not in distil(hook_config(alpha=0)).losses


@pytest.mark.parametrize('location', [1, 2, 3])
def test_qrnet_is_distilled_per_query(distil, location):
    config = hook_config(location, token='first_valid')
    if location == 3:
        config['image_tap'] = dict(module='neck', output=1, token='first_valid')
    step = distil(config, 'qrnet/qrnet_shapes')
    assert 0 < step.losses['loss_distill_image'] < 3
    sum(v for k, v in step.losses.items() if 'loss' in k).backward()


def test_box_losses_stay_and_nothing_remains(distil):
    """Computing further rows of the last layer changes no box, and the hook leaves no trace."""
    step = distil(hook_config())
    data = dict(inputs=step.inputs, data_samples=step.data_samples)
    plain = step.model(**data, mode='loss')
    assert plain.keys() == {'loss_bbox', 'loss_giou'}
    for name, value in plain.items():
        torch.testing.assert_close(step.losses[name], value, atol=1e-6, rtol=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in step.model.modules())
    assert not any('teacher' in name for name in step.model.state_dict())


def test_predictions_are_never_listened_to(distil):
    step = distil(hook_config())
    step.hook.before_train(step.runner)
    step.hook.teacher.encode_texts = None  # would fail
    data = dict(inputs=step.inputs, data_samples=step.data_samples)
    step.model.eval()(**data, mode='predict')
    step.model.train()(inputs=step.inputs, mode='tensor')
    assert not any(tap.captured for tap in step.hook.taps.values())


@pytest.mark.parametrize(
    'change, message',
    [
        (
            dict(image_tap=dict(module='bbox_head.fusoin', token='mean')),
            'near names: bbox_head.fusion',
        ),
        (dict(image_tap=dict(module='nothing_like_it', token='mean')), 'near names: .*backbone'),
        (dict(image_tap=dict(module='bbox_head.fusion', token='vls')), 'token must be one of'),
        (dict(image_tap=dict(module='bbox_head.fusion', token='learnable')), 'learnable_vls=True'),
        (dict(text_tap=dict(module='bbox_head.box_mlp', token='cls')), 'not tokens B x N x C'),
        (dict(view='cropped'), "view must be 'augmented' or 'original'"),
        (dict(channel_order='grb'), "channel_order must be 'rgb', 'bgr' or None"),
        (dict(alpha='1.5'), "alpha must be a number, 0 or more, not '1.5'"),
        (dict(beta=-1), 'beta must be a number, 0 or more, not -1'),
        (dict(loss=dict(type='L1Loss')), 'loss L1Loss has no pool_side.*L1DistillLoss'),
        (dict(view='original'), 'needs the transform AddTeacherView'),
    ],
)
def test_wrong_settings_are_explained(distil, change, message):
    with pytest.raises(ValueError, match=message):
        distil(hook_config(**change))


def test_taps_may_be_given_in_part(distil):
    whole = distil(hook_config(token='mean_valid')).losses
    config = dict(hook_config(), image_tap=dict(token='mean_valid'), text_tap=None)
    torch.testing.assert_close(distil(config).losses, whole)


def add_views(batch, **options):
    for item in batch:
        view = AddTeacherView(**options)(dict(img=item['inputs'].permute(1, 2, 0).numpy()))
        keys = ('teacher_view', 'teacher_key')
        item['data_samples'].set_metainfo({key: view[key] for key in keys})


@pytest.fixture
def encoded(monkeypatch):
    """Numbers of pictures that went through CLIP together."""
    numbers, encode = [], open_clip.CLIP.encode_image

    def counted(clip, images, *args, **kwargs):
        numbers.append(len(images))
        return encode(clip, images, *args, **kwargs)

    monkeypatch.setattr(open_clip.CLIP, 'encode_image', counted)
    return numbers


def test_original_view_is_encoded_once_per_picture(distil, batch, encoded):
    """The picture as loaded, by its key; the canvas of the network does not matter."""
    add_views(batch, size=32)
    step = distil(hook_config(view='original'))
    assert encoded == [2] and len(step.inputs['image_index']) > 2
    step.hook.before_train(step.runner)
    changed = dict(step.inputs, images=step.inputs['images'].flip(-1))
    step.model(inputs=changed, data_samples=step.data_samples, mode='loss')
    step.hook.after_train(step.runner)
    assert encoded == [2]
    views = [torch.as_tensor(s.teacher_view.copy()).permute(2, 0, 1) for s in step.data_samples]
    target = step.hook.teacher.encode_images(torch.stack(views).float())
    sequence, _, parts = full_sequence(step)
    student = sequence[:, parts['visual']][:, 0]
    loss = 1.5 * cosine_loss(student, target[step.inputs['image_index']])
    torch.testing.assert_close(step.losses['loss_distill_image'], loss, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('options', [dict(size=48), dict(size=32, preproc='clip_center_crop')])
def test_the_view_must_be_that_of_the_teacher(distil, batch, options):
    add_views(batch, **options)
    expected = f"AddTeacherView has size={options['size']}, .*set size=32, preproc='letterbox'"
    with pytest.raises(ValueError, match=expected):
        distil(hook_config(view='original'))


def test_the_view_is_checked_before_training(batch):
    hook = HOOKS.build(hook_config(view='original'))
    with pytest.raises(ValueError, match='AddTeacherView.*PackDetInputs.*teacher_key.*meta_keys'):
        hook.check_data(batch)
    add_views(batch, size=32)
    hook.check_data(batch)
    HOOKS.build(hook_config()).check_data([])  # needs none


def test_building_the_teacher_leaves_the_random_numbers_of_gpus_alone(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, 'manual_seed_all', seeds.append)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    HOOKS.build(hook_config()).check_pretrained()
    assert seeds == [3, 3] and torch.equal(torch.rand(2), expected)


def run_training(cfg, folder, name, hooks=None, epochs=1, **options):
    """Train epochs of two steps under a runner."""
    cfg.merge_from_dict(
        dict(
            work_dir=str(folder / name),
            experiment_name=f'{folder.name}_{name}_{epochs}',
            log_level='ERROR',
            train_dataloader=dict(batch_size=4, dataset=dict(num_scenes=8)),
            val_dataloader=dict(dataset=dict(num_scenes=4)),
            train_cfg=dict(max_epochs=epochs),
            default_hooks=hooks or {},
            **options,
        )
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture
def train(load, tmp_path):
    """:func:`run_training` of TransVG on Shapes in a folder of its own."""
    return lambda *args, **kwargs: run_training(
        load('transvg/transvg_shapes'), tmp_path, *args, **kwargs
    )


def logged_losses(runner):
    """Name -> loss of each step."""
    scalars = runner.message_hub.log_scalars
    return {k: v.data[0].copy() for k, v in scalars.items() if k.startswith('train/loss')}


@pytest.fixture(scope='module')
def plain_losses(load, tmp_path_factory):
    cfg, hooks = load('transvg/transvg_shapes'), dict(distillation=hook_config())
    return logged_losses(run_training(cfg, tmp_path_factory.mktemp('plain'), 'plain', hooks))


def weights(tmp_path, name, epoch=1):
    return torch.load(tmp_path / name / f'epoch_{epoch}.pth')


def assert_equal(one, two):
    assert one.keys() == two.keys()
    assert [k for k in one if not torch.equal(one[k], two[k])] == []


def test_weights_of_zero_train_bit_for_bit_as_without(train, tmp_path):
    """P28."""
    train('without')
    train('with', dict(distillation=hook_config(alpha=0, beta=0)))
    assert_equal(*(weights(tmp_path, name)['state_dict'] for name in ('without', 'with')))


def test_a_frozen_teacher_stays_and_is_saved_nowhere(train, tmp_path, monkeypatch):
    """P27."""
    seen = []
    start = CLIPDistillationHook._start

    def record(hook, *args):
        seen.append({k: v.clone() for k, v in hook.teacher.state_dict().items()})
        start(hook, *args)

    monkeypatch.setattr(CLIPDistillationHook, '_start', record)
    runner = train('frozen', dict(distillation=hook_config()))
    (hook,) = (h for h in runner.hooks if isinstance(h, CLIPDistillationHook))
    assert len(seen) > 2
    assert_equal(seen[0], hook.teacher.state_dict())
    checkpoint = weights(tmp_path, 'frozen')
    assert 'distillation_teacher' not in checkpoint
    assert checkpoint['state_dict'].keys() == runner.model.state_dict().keys()
    optimised = {id(p) for g in runner.optim_wrapper.param_groups for p in g['params']}
    assert not any(id(p) in optimised for p in hook.teacher.parameters())
    assert not any('teacher' in k for k in runner.model.state_dict())


@pytest.mark.parametrize('kind', ['trainable', 'cached', 'cached_on_disk', 'not_cached'])
def test_resumed_equals_unbroken(train, tmp_path, kind):
    """Bit for bit; but what is cached in memory only was encoded in other batches, and rounded so."""
    change = dict(
        trainable=dict(trainable=True),
        cached={},
        cached_on_disk=dict(cache=dict(dir=str(tmp_path / 'cache'))),
        not_cached=dict(cache=None),
    )[kind]
    config = hook_config(teacher={**TEACHER, **change}, teacher_lr=1e-3)
    train('whole', dict(distillation=config), epochs=2)
    train('broken', dict(distillation=config), epochs=1)
    train('broken', dict(distillation=config), epochs=2, resume=True)
    whole, broken = (weights(tmp_path, name, 2) for name in ('whole', 'broken'))
    if kind == 'cached':
        for name, tensor in whole['state_dict'].items():
            torch.testing.assert_close(broken['state_dict'][name], tensor, atol=1e-4, rtol=1e-4)
    else:
        assert_equal(whole['state_dict'], broken['state_dict'])
    assert ('distillation_teacher' in whole) == (kind == 'trainable')
    if kind == 'trainable':
        assert_equal(whole['distillation_teacher'], broken['distillation_teacher'])
        first = weights(tmp_path, 'whole', 1)['distillation_teacher']
        moved = [
            k for k, v in first.items() if not torch.equal(v, whole['distillation_teacher'][k])
        ]
        assert any('visual' in k for k in moved) and any('transformer' in k for k in moved)


@pytest.mark.parametrize('scaled', [False, True])
def test_a_trainable_teacher_has_its_own_rate_and_schedule(train, scaled):
    config = hook_config(teacher={**TEACHER, 'trainable': True}, teacher_lr=1e-4)
    scaling = dict(enable=scaled, base_batch_size=8)  # twice that of this training
    runner = train('rates', dict(distillation=config), auto_scale_lr=scaling)
    groups = runner.optim_wrapper.optimizer.param_groups
    others, group = groups[0], groups[-1]
    rate = 5e-5 if scaled else 1e-4
    assert group['name'] == 'distillation_teacher' and group['initial_lr'] == pytest.approx(rate)
    assert group['lr'] / rate == pytest.approx(others['lr'] / others['initial_lr'])
    configured = runner.cfg.optim_wrapper.optimizer.lr
    assert others['initial_lr'] / configured == pytest.approx(rate / 1e-4)
    count = len(groups)
    runner.val()  # is a run of its own
    assert len(groups) == count


OPTIONS = dict(
    ema=dict(custom_hooks=[dict(type='EMAHook', momentum=0.1)]),
    accumulation=dict(optim_wrapper=dict(accumulative_counts=2)),
    checkpointing=dict(model=dict(bbox_head=dict(with_cp=True), language_model=dict(with_cp=True))),
    compile=dict(compile=dict(backend='eager')),
)


@pytest.mark.parametrize('name', OPTIONS)
def test_it_works_with_the_options_of_the_runner(train, plain_losses, name, tmp_path):
    """What is minimised stays the same, step by step."""
    runner = train(name, dict(distillation=hook_config()), **OPTIONS[name])
    losses = logged_losses(runner)
    assert losses.keys() == plain_losses.keys() >= {'train/loss_distill_image'}
    assert 'train/distill_text_cos_other' in runner.message_hub.log_scalars
    steps = 1 if name == 'accumulation' else 2  # weights first change after two steps
    for key, expected in plain_losses.items():
        assert len(losses[key]) == len(expected) == 2
        assert losses[key][:steps] == pytest.approx(expected[:steps], abs=1e-4), key
    if name == 'ema':
        assert weights(tmp_path, name)['ema_state_dict'].keys() >= {'module.bbox_head.reg_token'}


def test_a_trainable_teacher_beside_an_average_of_the_weights(train, tmp_path):
    config = hook_config(teacher={**TEACHER, 'trainable': True}, teacher_lr=1e-3)
    runner = train('averaged', dict(distillation=config), **OPTIONS['ema'])
    (hook,) = (h for h in runner.hooks if isinstance(h, CLIPDistillationHook))
    checkpoint = weights(tmp_path, 'averaged')
    assert_equal(checkpoint['distillation_teacher'], hook.teacher.state_dict())
    begin = HOOKS.build(config)
    begin.check_pretrained()
    old = begin.teacher.state_dict()
    assert [k for k, v in old.items() if not torch.equal(v, checkpoint['distillation_teacher'][k])]
    for name in ('state_dict', 'ema_state_dict'):
        assert not any('clip' in key or 'teacher' in key for key in checkpoint[name])


@pytest.mark.parametrize('trainable', [False, True])
def test_mixed_precision(distil, trainable):
    config = hook_config(teacher={**TEACHER, 'trainable': trainable})
    with torch.autocast('cpu', torch.bfloat16):
        step = distil(config)
    full = distil(config).losses
    for kind in ('image', 'text'):
        loss = step.losses[f'loss_distill_{kind}']
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[f'loss_distill_{kind}'], atol=0.05, rtol=0)
    sum(v for k, v in step.losses.items() if k.startswith('loss')).backward()
    learned = [p for p in step.hook.teacher.parameters() if p.grad is not None and p.grad.any()]
    assert bool(learned) == trainable
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in learned)


def test_learnable_vls_token_is_part_of_the_model(distil):
    step = distil(hook_config(token='learnable'), learnable_vls=True)
    head = step.model.bbox_head
    assert len(head.vl_pos_embed) == 2 + head.max_query_len + head.num_visual_tokens
    step.losses['loss_distill_image'].backward()
    assert head.vls_token.grad.any()
    with pytest.raises(ValueError, match='fusion positions'):
        head.load_state_dict({'vl_pos_embed': head.vl_pos_embed[1:]}, strict=False)
