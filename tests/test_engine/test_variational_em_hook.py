"""Phases, ramp and stop rule of variational EM (spec vcma 1.8, 5 item 7)."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner

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
        self.log_scalars = {}

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


def test_the_log_forgets_the_losses_of_the_phase_before(runner):
    scalars = runner.message_hub.log_scalars
    for runner.iter in (10, 11, 13):  # E after the warm-up, E, M
        scalars.update(dict.fromkeys(('train/loss_kl', 'train/loss', 'train/lr', 'val/loss'), 1))
        hook().before_train_iter(runner, 0)
        both = {'train/lr', 'val/loss'}
        assert set(scalars) == both | (
            {'train/loss_kl', 'train/loss'} if runner.iter == 11 else set()
        )


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


def test_rounds_in_which_beta_rises_neither_stop_nor_count(runner):
    """Of 4 rounds, until iteration 30; judged, the first would be the best for good."""
    values = {15: 50, 20: 40, 25: 45, 30: 10, 35: 11, 40: 12, 45: 11.5, 50: 11.8}
    for runner.iter, value in values.items():
        assert not runner.train_loop.stop_training
        hook(ramp_rounds=4).after_val_epoch(runner, dict(m_vIoU=value))
    assert runner.train_loop.stop_training
    assert list(runner.message_hub.runtime_info['em_history']) == list(values)


def test_it_never_stops_if_not_wanted(runner):
    for runner.iter in range(15, 60, 5):
        hook(stop=False).after_val_epoch(runner, dict(m_vIoU=-runner.iter))
    assert not runner.train_loop.stop_training
    assert isinstance(hook(), Hook)


# --- the best weights


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.tube_head = torch.nn.Linear(1, 1)
        self.tube_head.register_buffer('beta_scale', torch.zeros(()))

    def forward(self, inputs, mode):
        y = self.tube_head(inputs)
        return dict(loss=y.square().sum()) if mode == 'loss' else [y]


class Scripted(BaseMetric):
    """Finds ``values``, one per validation."""

    default_prefix = ''

    def __init__(self, values):
        super().__init__()
        self.values = iter(values)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(m_vIoU=next(self.values))


def train_toy(work_dir, values, save_best):
    """Validated every 2 iterations; a round has 2."""
    loader = dict(
        batch_size=1, dataset=[dict(inputs=torch.ones(1))], collate_fn=dict(type='default_collate')
    )
    runner = Runner(
        model=Toy(),
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        train_dataloader=dict(loader, sampler=dict(type='InfiniteSampler')),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=Evaluator([Scripted(values)]),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        train_cfg=dict(by_epoch=False, max_iters=2 * len(values), val_interval=2),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook',
                by_epoch=False,
                interval=2,
                save_best=save_best,
                rule='greater',
            )
        ),
        custom_hooks=[hook(warmup_iters=0, e_iters=1, m_iters=1, stop=False)],
        log_level='ERROR',
    )
    runner.train()
    return runner


def weights_of(path):
    return CheckpointLoader.load_checkpoint(str(path))['state_dict']


def differs(one, other):
    return any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(('values', 'best'), [((3, 1, 2), 2), ((1, 3, 2), 4)])
def test_the_model_gets_its_best_weights(tmp_path, values, best):
    found = train_toy(tmp_path, values, 'm_vIoU').model.state_dict()
    assert not differs(found, weights_of(tmp_path / f'best_m_vIoU_iter_{best}.pth'))
    assert not differs(found, weights_of(tmp_path / f'iter_{best}.pth'))
    assert differs(found, weights_of(tmp_path / 'iter_6.pth'))


def test_it_warns_if_no_best_weights_were_kept(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text, *args: warnings.append(text))
    found = train_toy(tmp_path, (3, 1, 2), None).model.state_dict()
    assert not differs(found, weights_of(tmp_path / 'iter_6.pth'))
    assert any('keeps its last weights; set default_hooks' in str(text) for text in warnings)
