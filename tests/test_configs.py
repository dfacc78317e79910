"""Every config is built, and the recipes say what the specification says."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from mmdet.registry import (
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISUALIZERS,
)
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper

from mmvg.models.detectors import QRNet
from mmvg.text import build_tokenizer

ROOT = Path(__file__).parents[1] / 'configs'
DETECTORS = {  # give a grounder its initial visual weights
    ROOT / 'transvg/fcos_shapes.py': ROOT / 'transvg/transvg_shapes.py',
    ROOT / 'qrnet/fcos_swin_shapes.py': ROOT / 'qrnet/qrnet_shapes.py',
}
LEAVES = sorted(p for p in ROOT.rglob('*.py') if '_base_' not in p.parts and p not in DETECTORS)
# Of these there is test_reir_configs.py and test_vcma_configs.py.
LEAVES = [p for p in LEAVES if p.relative_to(ROOT).parts[0] not in ('reir', 'vcma')]
SPLITS = {
    'refcoco': ['val', 'testA', 'testB'],
    'refcocoplus': ['val', 'testA', 'testB'],
    'refcocog-g': ['val'],
    'refcocog-u': ['val', 'test'],
    'referit': ['val', 'test'],
    'flickr30k': ['val', 'test'],
}


def recipes(pattern):
    return sorted(p for p in ROOT.glob(pattern) if p.stem.split('_')[-1] in SPLITS)


TRANSVG = recipes('transvg/transvg_r*.py')
QRNET = recipes('qrnet/qrnet_swin*.py')
EPMVG = recipes('epmvg/*.py')
RECIPES = TRANSVG + QRNET + EPMVG
ABLATIONS = sorted((ROOT / 'epmvg/ablations').glob('*.py'))


def name(path):
    return path.relative_to(ROOT).with_suffix('').as_posix()


def load(path):
    return Config.fromfile(path)


def shrink(model):
    """The same parts at a size that builds at once; nothing is read from a hub."""
    model = Config(dict(model=model)).model
    model.language_model.update(
        pretrained=None,
        config=dict(
            vocab_size=100,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        ),
    )
    model.bbox_head.update(text_channels=32, num_layers=1, feedforward_channels=32)
    if 'num_layers' in model.visual_encoder:
        model.visual_encoder.update(num_layers=1, feedforward_channels=32)
    if 'depths' in model.backbone:
        model.backbone.depths = [1] * len(model.backbone.depths)
    for part in (model.backbone, model.neck):
        if 'text_channels' in part:
            part.text_channels = 32
    return model


def count_visual_tokens(model, side):
    """How many the visual branch makes of a picture; ``model`` is on the meta device."""
    with torch.device('meta'):
        inputs = dict(
            images=torch.zeros(1, 3, side, side),
            image_padding_mask=torch.zeros(1, side, side, dtype=torch.bool),
            image_index=torch.zeros(1, dtype=torch.long),
        )
        text = [torch.zeros(1, 32)] if isinstance(model, QRNet) else []
    return model.extract_feat(inputs, *text)['visual_tokens'].shape[1]


def dataset_parts(cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        yield from loader.dataset.get('datasets', [loader.dataset])


@pytest.mark.parametrize('path', LEAVES, ids=name)
def test_every_part_of_a_config_builds(path):
    cfg = load(path)
    model = MODELS.build(shrink(cfg.model))
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(
        cfg.optim_wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    )
    wrapper_cfg = cfg.optim_wrapper.copy()
    wrapper_cfg.pop('constructor', None)
    paramwise_cfg = wrapper_cfg.pop('paramwise_cfg', None)
    wrapper = constructor(wrapper_cfg, paramwise_cfg)(model)
    schedulers = (
        cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    )
    for scheduler in schedulers:
        scheduler = scheduler.copy()
        if scheduler.pop('convert_to_iter_based', False):
            cls = PARAM_SCHEDULERS.get(scheduler.pop('type'))
            cls.build_iter_from_epoch(wrapper.optimizer, **{**scheduler, 'epoch_length': 10})
        else:
            PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=wrapper.optimizer))
    for part in dataset_parts(cfg):
        assert DATASETS.get(part.type)
        for transform in part.pipeline:
            TRANSFORMS.build(transform)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        METRICS.build(evaluator)
    for hook in (*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])):
        HOOKS.build(hook)
    assert VISUALIZERS.get(cfg.visualizer.type)


@pytest.mark.parametrize('path', LEAVES, ids=name)
def test_text_length_and_tokens_agree_between_pipelines_and_head(path):
    cfg = load(path)
    lengths = {
        t.max_query_len
        for part in dataset_parts(cfg)
        for t in part.pipeline
        if t.type == 'TokenizeQueries'
    }
    assert lengths == {cfg.model.bbox_head.max_query_len}
    canvases = {
        t['size'] for part in dataset_parts(cfg) for t in part.pipeline if t.type == 'PlaceOnCanvas'
    } or {cfg.train_dataloader.dataset.get('side', 64)}
    with torch.device('meta'):
        model = MODELS.build(shrink(cfg.model))
    assert count_visual_tokens(model, canvases.pop()) == cfg.model.bbox_head.num_visual_tokens


@pytest.mark.parametrize('path', TRANSVG, ids=name)
def test_transvg_recipe_is_the_released_one(path):
    """Spec 1.3, 1.5 to 1.7."""
    cfg = load(path)
    plus = 'refcocoplus' in path.stem
    assert cfg.train_cfg.max_epochs == (180 if plus else 90)
    assert cfg.param_scheduler == dict(
        type='StepLR', step_size=120 if plus else 60, gamma=0.1, by_epoch=True
    )
    assert cfg.model.bbox_head.max_query_len == (40 if 'refcocog' in path.stem else 20)
    assert cfg.model.backbone.depth == (101 if 'r101' in path.stem else 50)
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=1e-4)
    assert 'clip_grad' not in cfg.optim_wrapper and cfg.optim_wrapper.type == 'OptimWrapper'
    groups = cfg.optim_wrapper.paramwise_cfg.groups
    assert {k: v.lr for k, v in groups.items()} == dict(
        visual_backbone=1e-5, visual_encoder=1e-5, language_model=1e-5
    )
    assert cfg.train_dataloader.batch_size == 8 and cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.train_dataloader.drop_last
    head = cfg.model.bbox_head
    assert (head.loss_bbox, head.loss_giou) == (
        dict(type='L1Loss', loss_weight=1.0),
        dict(type='GIoULoss', loss_weight=1.0),
    )
    assert head.get('text_gain', 1.0) == 1.0
    for part in dataset_parts(cfg):
        assert part.truncate_boxes and not part.get('group_by_image', False)
    train = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert list(train) == [
        'LoadGroundingImage',
        'LoadQueryAnnotations',
        'LocationAwareSelect',
        'PillowColorJitter',
        'FlipWithText',
        'PlaceOnCanvas',
        'TokenizeQueries',
        'PackGroundingInputs',
    ]
    scales = [640, 608, 576, 544, 512, 480, 448]
    select = train['LocationAwareSelect']
    assert select.prob == 0.5 and select.default[0].scales == scales
    assert select.cropped[0].scales == [400, 500, 600] and select.cropped[0].side == 'short'
    assert (select.cropped[1].min_size, select.cropped[1].max_size, select.cropped[1].check) == (
        384,
        600,
        'official',
    )
    assert train['FlipWithText'].swap == 'substring' and train['PlaceOnCanvas'].position == 'random'
    test = {t.type: t for t in cfg.test_dataloader.dataset.datasets[0].pipeline}
    assert test['ResizeSide'].scales == [640] and test['PlaceOnCanvas'].position == 'centre'
    splits = SPLITS[path.stem.split('_')[-1]]
    assert [d.name for d in cfg.test_dataloader.dataset.datasets] == splits


@pytest.mark.parametrize('path', QRNET, ids=name)
def test_qrnet_recipe_is_the_released_one_or_that_of_the_epmvg_text(path):
    """Spec 2.2 to 2.8 and 3.1; data and losses are TransVG's."""
    cfg = load(path)
    data_set = path.stem.split('_')[-1]
    plus, released = data_set == 'refcocoplus', '8xb8' not in path.stem
    of_coco = data_set.startswith('refcoco')  # the others need no detector that left pictures out
    assert cfg.train_cfg.max_epochs == (180 if released or plus else 90)
    assert cfg.param_scheduler == dict(
        type='StepLR', step_size=120 if plus else 60, gamma=0.1, by_epoch=True
    )
    assert cfg.train_dataloader.batch_size == (16 if released and of_coco else 8)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size
    detector = f'swin-s_mask-rcnn_{data_set}' if of_coco else 'swin-s_mask-rcnn'
    assert cfg.load_from == f'checkpoints/{detector}.pth'
    groups = cfg.optim_wrapper.paramwise_cfg.groups
    assert {k: v.lr for k, v in groups.items()} == dict(
        visual_backbone=1e-5,
        backbone_gates=1e-4,
        visual_neck=1e-5,
        neck_gates=1e-4,
        language_model=1e-5,
    )
    gate_cfg = dict(rank=30, reduction=16, use_channel=True, use_spatial=True)
    gate_cfg['v_init'] = 0.02 if 'fixed-gate' in path.stem else 0.0
    assert cfg.model.backbone.gate_cfg == cfg.model.neck.gate_cfg == gate_cfg
    assert cfg.model.backbone.drop_path_rate == 0.2 and cfg.model.bbox_head.num_visual_tokens == 500
    assert not cfg.model.get('constant_text', False)

    transvg = load(ROOT / f'transvg/transvg_r50_{data_set}.py')
    for key in ('optimizer', 'type'):
        assert cfg.optim_wrapper[key] == transvg.optim_wrapper[key]
    assert 'clip_grad' not in cfg.optim_wrapper
    assert cfg.model.bbox_head == {**transvg.model.bbox_head, 'num_visual_tokens': 500}
    assert {**cfg.train_dataloader, 'batch_size': 8} == transvg.train_dataloader
    for key in ('val_dataloader', 'test_dataloader', 'test_evaluator', 'randomness'):
        assert cfg[key] == transvg[key]


def flatten(value, prefix=''):
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key in value for k, v in flatten(value[key], f'{prefix}.{key}').items()}


def changes(path, base):
    """What ``path`` has that its base has not, by dotted keys; helper variables are left out."""
    helpers = {'distillation', 'image_tap', 'text_tap', 'load', 'augment', 'train_pipeline'}
    new, old = (
        flatten({k: v for k, v in load(p).to_dict().items() if k not in helpers})
        for p in (path, base)
    )
    assert set(old) <= set(new)
    return {k.lstrip('.'): v for k, v in new.items() if k not in old or old[k] != v}


@pytest.mark.parametrize('path', EPMVG, ids=name)
def test_epmvg_is_its_baseline_and_the_distillation(path):
    """Spec 3.1; all else, the schedule included, is the baseline's (spec 3.2, A18)."""
    grounder, *_, data_set = path.stem.split('_')
    baseline = dict(qrnet=f'qrnet/qrnet_swin_8xb8_{data_set}.py').get(
        grounder, f'transvg/{path.stem}.py'
    )
    hook = 'default_hooks.distillation'
    added = changes(path, ROOT / baseline)
    assert all(key.startswith(f'{hook}.') for key in added)
    assert load(path).default_hooks.distillation == dict(
        type='CLIPDistillationHook',
        teacher=dict(
            type='OpenCLIPTeacher',
            model_name='ViT-B-32-quickgelu',
            pretrained='openai',
            preproc='letterbox',
        ),
        view='augmented',
        image_tap=dict(module='bbox_head.fusion', token='first_patch'),
        text_tap=dict(module='bbox_head.fusion', token='cls'),
        loss=dict(type='CosineDistillLoss'),
        alpha=1.5,
        beta=2.0,
    )


def taps(image, text, **keys):
    return {'image_tap.module': image, 'text_tap.module': text, **keys}


LOCATIONS = {
    'loc2': taps('bbox_head.visual_proj', 'bbox_head.text_proj'),
    'loc3': taps('visual_encoder', 'language_model'),
    'loc4': taps('backbone', 'language_model.bert.embeddings'),
}
LEARNABLE = {'image_tap.token': 'learnable', 'model.bbox_head.learnable_vls': True}
CHANGES = {  # spec 3.7; keys without 'model' are those of the hook
    'l1': {'loss.type': 'L1DistillLoss'},
    'img-only': {'beta': 0.0},
    'txt-only': {'alpha': 0.0},
    **LOCATIONS,
    'unfrozen': {'teacher.trainable': True, 'teacher_lr': 1e-5},
    'vls-learnable': LEARNABLE,
    'vls-first-valid': {'image_tap.token': 'first_valid'},
    'vls-mean-valid': {'image_tap.token': 'mean_valid'},
    'lmcl': {'loss.type': 'LargeMarginDistillLoss'},
    'smooth-l1': {'model.bbox_head.loss_bbox.type': 'SmoothL1Loss'},
    'original-view': {'view': 'original'},
    'qrnet-loc2': LOCATIONS['loc2'],
    'qrnet-loc3': taps('neck', 'language_model', **{'image_tap.output': 3}),
    'qrnet-loc4': LOCATIONS['loc4'],
    'qrnet-vls-learnable': LEARNABLE,
}


@pytest.mark.parametrize('path', ABLATIONS, ids=name)
def test_an_ablation_changes_what_its_row_says_and_nothing_else(path):
    which = path.stem.removeprefix('epmvg_')
    base = 'qrnet_swin_refcoco.py' if which.startswith('qrnet') else 'transvg_r50_refcoco.py'
    found = changes(path, ROOT / 'epmvg' / base)
    pipeline = found.pop('train_dataloader.dataset.pipeline', None)
    assert found == {
        key if key.startswith('model') else f'default_hooks.distillation.{key}': value
        for key, value in CHANGES[which].items()
    }
    assert (pipeline is not None) == (which == 'original-view')
    if pipeline is not None:
        usual = load(ROOT / 'epmvg' / base).train_dataloader.dataset.pipeline
        assert pipeline == [usual[0], dict(type='AddTeacherView', size=224), *usual[1:]]


def test_every_recipe_has_a_config_for_every_data_set():
    grounders = Counter(path.relative_to(ROOT).as_posix().rpartition('_')[0] for path in RECIPES)
    assert set(grounders) == {
        'transvg/transvg_r50',
        'transvg/transvg_r101',
        'qrnet/qrnet_swin',
        'qrnet/qrnet_swin_8xb8',
        'qrnet/qrnet_swin_fixed-gate',
        'epmvg/transvg_r50',
        'epmvg/transvg_r101',
        'epmvg/qrnet_swin',
    }
    assert grounders.pop('qrnet/qrnet_swin_fixed-gate') == 1
    assert set(grounders.values()) == {len(SPLITS)}


def test_every_ablation_has_a_config():
    assert {p.stem.removeprefix('epmvg_') for p in ABLATIONS} == set(CHANGES)


TINY_CLIP = dict(
    embed_dim=64,
    vision_cfg=dict(image_size=32, patch_size=8, width=32, layers=1, head_width=16),
    text_cfg=dict(
        context_length=16,
        vocab_size=64,
        width=32,
        heads=2,
        layers=1,
        pool_type='eos',
        eos_id=build_tokenizer('builtin:shapes').sep_id,
    ),
)


def tiny_batch(model):
    """Two generated pictures, each with all its queries, and what CLIP may see of them."""
    pipeline = [
        'LoadGroundingImage',
        'AddTeacherView',
        'LoadQueryAnnotations',
        'PackGroundingInputs',
    ]
    pipeline = [dict(type=step) for step in pipeline]
    pipeline[1]['size'] = TINY_CLIP['vision_cfg']['image_size']
    pipeline.insert(-1, dict(type='TokenizeQueries', tokenizer='builtin:shapes', max_query_len=14))
    dataset = DATASETS.build(
        dict(type='ShapesGroundingDataset', split='train', num_scenes=2, pipeline=pipeline)
    )
    return model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)


@pytest.mark.parametrize(
    'path',
    [*ABLATIONS, *(ROOT / f'epmvg/{x}_refcoco.py' for x in ('transvg_r50', 'qrnet_swin'))],
    ids=name,
)
def test_a_training_step_distils(path):
    """The taps exist and the widths agree, whatever the location; nothing stays in the model."""
    cfg = load(path)
    model_cfg = shrink(cfg.model)
    model_cfg.bbox_head.num_visual_tokens = 5 if model_cfg.type == 'QRNet' else 4
    model = MODELS.build(model_cfg).train()
    names = set(model.state_dict())
    hook_cfg = cfg.default_hooks.distillation
    hook_cfg.teacher.update(pretrained=None, config=TINY_CLIP, tokenizer='builtin:shapes')
    hook = HOOKS.build(hook_cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = SimpleNamespace(
        model=model, optim_wrapper=OptimWrapper(optimizer), param_schedulers=[], hooks=[hook]
    )
    hook.before_run(runner)
    hook.before_train(runner)
    losses = model(**tiny_batch(model), mode='loss')
    weights = dict(image=hook_cfg.alpha, text=hook_cfg.beta)
    terms = {f'loss_distill_{kind}' for kind, weight in weights.items() if weight}
    assert {k for k in losses if 'loss' in k} == {'loss_bbox', 'loss_giou', *terms}
    sum(losses[k] for k in terms).backward()
    assert all(losses[k].isfinite() for k in losses)
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())
    learns = [p.grad is not None for p in hook.teacher.parameters()]
    assert any(learns) == hook_cfg.teacher.get('trainable', False)
    hook.after_train(runner)
    assert set(model.state_dict()) == names


@pytest.mark.parametrize(
    'path, total, frozen',
    [
        ('transvg/transvg_r50_refcoco.py', 149_745_860, (11, 222_400)),
        ('transvg/transvg_r101_refcoco.py', 168_685_764, (11, 222_400)),
        # The released QRNet carries an RPN head of 593,935 parameters that it does not use.
        ('qrnet/qrnet_swin_refcoco.py', 273_320_893 - 593_935, (0, 0)),
    ],
)
def test_parameter_counts_are_the_official_ones(path, total, frozen):
    """Spec 1.5 and 2.6; BERT's pooler is frozen in any case."""
    with torch.device('meta'):
        model = MODELS.build(load(ROOT / path).model)
    assert sum(p.numel() for p in model.parameters()) == total
    sizes = [
        p.numel() for n, p in model.named_parameters() if not p.requires_grad and 'pooler' not in n
    ]
    assert (len(sizes), sum(sizes)) == frozen


def test_every_recipe_is_in_a_metafile_that_the_index_imports():
    metafiles = yaml.safe_load((ROOT.parent / 'model-index.yml').read_text())['Import']
    assert sorted(metafiles) == sorted(str(p.relative_to(ROOT.parent)) for p in ROOT.rglob('*.yml'))
    named = {}
    for metafile in metafiles:
        content = yaml.safe_load((ROOT.parent / metafile).read_text())
        collections = {c['Name']: c['README'] for c in content['Collections']}
        assert all((ROOT.parent / readme).is_file() for readme in collections.values())
        for entry in content['Models']:
            assert entry['In Collection'] in collections
            named[entry['Name']] = ROOT.parent / entry['Config']
    # EpmVG's have the stems of their baselines.
    assert all(
        path.is_file() and name.removeprefix('epmvg_') == path.stem.removeprefix('epmvg_')
        for name, path in named.items()
    )
    others = [*ROOT.glob('reir/reir_r101_*.py'), *ROOT.glob('vcma/vcma_r101_*.py')]
    assert others and set(RECIPES + ABLATIONS + others) <= set(named.values())


@pytest.mark.parametrize('path', DETECTORS, ids=name)
def test_the_shapes_detector_trains_and_its_weights_fit_the_grounder(path):
    cfg, grounder = load(path), load(DETECTORS[path])
    cfg.train_dataloader.dataset.num_scenes = 2
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    detector = MODELS.build(cfg.model)
    assert cfg.model.bbox_head.num_classes == len(dataset.metainfo['classes'])
    batch = pseudo_collate([dataset[0], dataset[1]])
    assert [len(s.gt_instances) for s in batch['data_samples']] == [
        len(dataset.get_data_info(i)['instances']) for i in range(2)
    ]
    losses = detector(**detector.data_preprocessor(batch, True), mode='loss')
    sum(losses.values()).backward()
    assert all(v > 0 for v in losses.values())
    state = {k: v for k, v in detector.state_dict().items() if k.startswith(('backbone.', 'neck.'))}
    report = MODELS.build(grounder.model).load_state_dict(state, strict=False)
    # QRNet's neck has no output convolutions, and no detector has its gates.
    assert not [k for k in report.unexpected_keys if not k.startswith('neck.fpn_convs.')]
    missing = [k for k in report.missing_keys if k.startswith(('backbone.', 'neck.'))]
    assert not [k for k in missing if '.gates.' not in k]
