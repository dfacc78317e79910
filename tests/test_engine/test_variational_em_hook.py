"""Phases, ramp and stop rule of variational EM (spec vcma 1.8, 5 item 7)."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

import mmvg  # noqa: F401
from mmvg.engine.hooks.variational_em_hook import should_stop


def hook(**settings):
    defaults = dict(warmup_iters=10, e_iters=3, m_iters=2, monitor='m_vIoU')
    return HOOKS.build(dict(type='VariationalEMHook', **{**defaults, **settings}))


def rounds_until_stop(values):
    return next((n for n in range(1, len(values) + 1) if should_stop(values[:n])), None)


@pytest.mark.parametrize(
    ('values', 'stop'),
    [
        ((10, 12, 13, 12.9, 13.0, 12.8), 5),
        ((13, 12, 11, 10, 9), 5),
        (range(10, 40), None),
        ((10, 10.05, 10.09, 10.0, 9.9), 4),  # gains below min_delta are none
        ((10, 11), None),
        ((), None),
    ],
)
def test_stop_rule(values, stop):
    assert rounds_until_stop(list(values)) == stop


def test_phases_alternate_and_beta_rises():
    phases = [hook().phase_at(i) for i in range(10, 25)]
    assert ''.join(p for p, _ in phases) == 'EEEMM' * 3
    assert [s for _, s in phases] == pytest.approx([min(1, i / 10) for i in range(15)])
    assert hook().phase_at(9) == ('warmup', 0.0)
    assert hook(ramp_rounds=0).phase_at(10) == ('E', 1.0)


def test_settings_are_checked():
    with pytest.raises(ValueError, match='e_iters and m_iters'):
        hook(e_iters=0)


class Messages:
    def __init__(self):
        self.runtime_info = {}

    def update_info(self, key, value):
        self.runtime_info[key] = value


@pytest.fixture
def runner():
    head = SimpleNamespace(phase='warmup', beta_scale=torch.ones(()))
    logger = SimpleNamespace(info=lambda _: None, warning=lambda _: None)
    return SimpleNamespace(
        iter=0,
        model=SimpleNamespace(tube_head=head),
        message_hub=Messages(),
        logger=logger,
        train_loop=SimpleNamespace(stop_training=False),
    )


def test_it_sets_the_phase_from_the_iteration_alone(runner):
    runner.iter = 14  # as after resuming
    hook().before_train_iter(runner, 0)
    assert runner.model.tube_head.phase == 'M'
    assert runner.model.tube_head.beta_scale.item() == pytest.approx(0.4)


def test_it_stops_the_training_and_a_resumed_one(runner):
    values = {5: 50, 15: 10, 20: 12, 25: 13, 30: 12.9, 35: 13.0}
    for runner.iter, value in values.items():
        assert not runner.train_loop.stop_training
        hook().after_val_epoch(runner, dict(m_vIoU=value))
        if runner.iter == 30:  # repeated, as after an interruption
            hook().after_val_epoch(runner, dict(m_vIoU=value))
    assert runner.train_loop.stop_training
    assert list(runner.message_hub.runtime_info['em_history']) == [15, 20, 25, 30, 35]
    runner.train_loop.stop_training = False
    hook().before_train(runner)
    assert runner.train_loop.stop_training
    with pytest.raises(ValueError, match='no metric'):
        hook().after_val_epoch(runner, dict(other=1))


def test_it_never_stops_if_not_wanted(runner):
    for runner.iter in range(15, 60, 5):
        hook(stop=False).after_val_epoch(runner, dict(m_vIoU=-runner.iter))
    assert not runner.train_loop.stop_training
    assert isinstance(hook(), Hook)
