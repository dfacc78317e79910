"""GroupOptimWrapperConstructor: which parameter is trained at which rate."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper, StepLR, build_optim_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.optim import AdamW

import mmvg  # noqa: F401

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


class Toy(nn.Module):
    """A model with nested parts, one of them frozen."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(dict(stem=nn.Linear(2, 2), body=nn.Linear(2, 2)))
        self.backbone_norm = nn.LayerNorm(2)
        self.head = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def build(model, groups, optimizer=None, **kwargs):
    return build_optim_wrapper(
        model,
        dict(
            constructor='GroupOptimWrapperConstructor',
            optimizer=optimizer or dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
            paramwise_cfg=dict(groups=groups),
            **kwargs,
        ),
    )


def names(model, wrapper):
    """Parameter names of each group."""
    name_of = {id(param): name for name, param in model.named_parameters()}
    return {
        group['name']: {name_of[id(param)] for param in group['params']}
        for group in wrapper.optimizer.param_groups
    }


def test_groups_rates_and_longest_prefix():
    model = Toy()
    wrapper = build(
        model,
        dict(
            slow=dict(prefixes=['backbone'], lr=1e-5),
            stem=dict(prefixes=['backbone.stem', 'head.bias'], lr=1e-6, weight_decay=0.0),
        ),
    )
    assert names(model, wrapper) == dict(
        default={'backbone_norm.weight', 'backbone_norm.bias', 'head.weight'},
        slow={'backbone.body.weight', 'backbone.body.bias'},
        stem={'backbone.stem.weight', 'backbone.stem.bias', 'head.bias'},
    )
    settings = [(g['name'], g['lr'], g['weight_decay']) for g in wrapper.optimizer.param_groups]
    assert settings == [('default', 1e-4, 1e-4), ('slow', 1e-5, 1e-4), ('stem', 1e-6, 0.0)]


def test_group_without_trainable_parameters_is_left_out():
    wrapper = build(Toy(), dict(still=dict(prefixes=['frozen'], lr=1e-5)))
    assert [group['name'] for group in wrapper.optimizer.param_groups] == ['default']


@pytest.mark.parametrize(
    'groups, message',
    [
        (
            dict(a=dict(prefixes=['back'], lr=1e-5)),
            r"'back' of paramwise_cfg.groups.a covers no parameter.*\['backbone', 'backbone_norm'",
        ),
        (
            dict(a=dict(prefixes=['backbone'], lr=0.0)),
            r"list \['backbone'\] in model.frozen_modules",
        ),
        (dict(a=dict(prefixes=['backbone'], lr=-1)), 'model.frozen_modules'),
        (dict(a=dict(prefixes=['head'], lr=1), b=dict(prefixes=['head'], lr=2)), 'in two groups'),
        (dict(default=dict(prefixes=['head'], lr=1)), "must not name a group 'default'"),
        (dict(a=dict(lr=1e-5)), 'needs prefixes='),
        (dict(a=dict(prefixes='head', lr=1e-5)), 'needs prefixes='),
        (
            dict(a=dict(prefixes=['head'], lr_mult=0.1)),
            r"\['lr_mult'\], which are no options of AdamW",
        ),
    ],
)
def test_mistakes_are_named(groups, message):
    with pytest.raises(ValueError, match=message):
        build(Toy(), groups)


@pytest.mark.parametrize('paramwise_cfg', [None, {}, dict(groups={}, custom_keys={})])
def test_other_paramwise_options_are_refused(paramwise_cfg):
    with pytest.raises(ValueError, match='needs paramwise_cfg=dict'):
        build_optim_wrapper(
            Toy(),
            dict(
                constructor='GroupOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=1e-4),
                paramwise_cfg=paramwise_cfg,
            ),
        )


def test_accumulation_and_amp_wrappers(monkeypatch):
    groups = dict(slow=dict(prefixes=['backbone'], lr=1e-5))
    wrapper = build(Toy(), groups, type='OptimWrapper', accumulative_counts=4)
    assert isinstance(wrapper, OptimWrapper) and wrapper._accumulative_counts == 4
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True
    )
    wrapper = build(Toy(), groups, type='AmpOptimWrapper', dtype='bfloat16')
    assert isinstance(wrapper, AmpOptimWrapper) and len(wrapper.optimizer.param_groups) == 2


def test_auto_scale_lr_scales_every_group(tmp_path):
    wrapper = build(Toy(), dict(slow=dict(prefixes=['backbone'], lr=1e-5)))
    runner = Runner(
        Toy(),
        str(tmp_path),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        log_level='ERROR',
        train_dataloader=dict(batch_size=16),
        optim_wrapper=OptimWrapper(AdamW(Toy().parameters())),
        experiment_name='auto_scale_lr',
    )
    runner.scale_lr(wrapper, dict(enable=True, base_batch_size=64))
    assert [group['lr'] for group in wrapper.optimizer.param_groups] == pytest.approx(
        [2.5e-5, 2.5e-6]
    )


def test_optimizer_state_survives_a_checkpoint():
    model = Toy()
    groups = dict(slow=dict(prefixes=['backbone'], lr=1e-5))
    wrapper = build(model, groups)
    wrapper.update_params(model.head(model.backbone['body'](torch.ones(1, 2))).sum())
    other = build(model, groups)
    other.load_state_dict(wrapper.state_dict())
    assert other.state_dict()['param_groups'] == wrapper.state_dict()['param_groups']
    assert [g['name'] for g in other.optimizer.param_groups] == ['default', 'slow']


def load(name):
    """A config and its model, without memory for the weights."""
    cfg = Config.fromfile(CONFIGS / name)
    with torch.device('meta'):
        return cfg, MODELS.build(cfg.model)


def sizes(wrapper):
    """Tensors, parameters and rate of each group."""
    return {
        group['name']: (len(group['params']), sum(p.numel() for p in group['params']), group['lr'])
        for group in wrapper.optimizer.param_groups
    }


@pytest.mark.parametrize(
    'depth, backbone, total',
    [
        (50, (42, 23_232_512), 149_745_860),
        (101, (93, 42_172_416), 168_685_764),
    ],
)
def test_official_groups_of_transvg(depth, backbone, total):
    """Spec section 1.5; BERT's pooler (2 tensors, 590,592) and the ResNet's stem stay frozen."""
    cfg, model = load(f'transvg/transvg_r{depth}_refcoco.py')
    assert sum(param.numel() for param in model.parameters()) == total
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert sizes(wrapper) == dict(
        default=(84, 8_393_732, 1e-4),
        visual_backbone=(*backbone, 1e-5),
        visual_encoder=(74, 8_414_976, 1e-5),
        language_model=(199 - 2, 109_482_240 - 590_592, 1e-5),
    )
    assert {group['weight_decay'] for group in wrapper.optimizer.param_groups} == {1e-4}
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == 222_400 + 590_592


@pytest.mark.parametrize('name', ['qrnet_swin_refcoco.py', 'qrnet_swin_8xb8_refcoco.py'])
def test_official_groups_of_qrnet(name):
    """Spec section 2.7. Two differences: the unused RPN head (6 tensors, 593,935 parameters) does
    not exist here, and BERT's unused pooler is frozen."""
    cfg, model = load(f'qrnet/{name}')
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert sizes(wrapper) == dict(
        default=(85, 8_420_612, 1e-4),
        visual_backbone=(333, 48_838_602, 1e-5),
        backbone_gates=(36, 68_840_760, 1e-4),
        visual_neck=(14 - 6, 963_599 - 593_935, 1e-5),
        neck_gates=(27, 36_775_080, 1e-4),
        language_model=(199 - 2, 109_482_240 - 590_592, 1e-5),
    )
    assert {group['weight_decay'] for group in wrapper.optimizer.param_groups} == {1e-4}
    assert sum(p.numel() for p in model.parameters()) == 273_320_893 - 593_935


@pytest.mark.parametrize(
    'name, epochs, drops',
    [
        ('transvg/transvg_r50_refcoco.py', 90, [60]),
        ('transvg/transvg_r50_refcocoplus.py', 180, [120]),
        ('qrnet/qrnet_swin_refcoco.py', 180, [60, 120]),
        ('qrnet/qrnet_swin_refcocoplus.py', 180, [120]),
        ('qrnet/qrnet_swin_8xb8_refcoco.py', 90, [60]),
        ('qrnet/qrnet_swin_8xb8_refcocoplus.py', 180, [120]),
    ],
)
def test_rates_over_the_official_schedule(name, epochs, drops):
    """Spec sections 1.7 and 2.7: every drop divides the rates of all groups by ten."""
    cfg, model = load(name)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    start = [group['lr'] for group in wrapper.optimizer.param_groups]
    assert start[0] == 1e-4 and set(start[1:]) <= {1e-4, 1e-5}
    options = {key: cfg.param_scheduler[key] for key in ('step_size', 'gamma', 'by_epoch')}
    schedule = StepLR(wrapper, **options)
    assert cfg.train_cfg.max_epochs == epochs
    for epoch in range(epochs):
        factor = 0.1 ** sum(drop <= epoch for drop in drops)
        rates = [group['lr'] for group in wrapper.optimizer.param_groups]
        assert rates == pytest.approx([factor * rate for rate in start]), epoch
        schedule.step()
