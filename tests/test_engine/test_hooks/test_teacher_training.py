"""How a teacher takes part in a training."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import LinearLR, OptimWrapper, ReduceOnPlateauLR
from torch import nn

from mmvg.engine.hooks.teacher_training import add_to_optimizer


def test_schedules_of_the_optimizer_take_the_teacher_in():
    frozen, moving = (dict(params=[nn.Parameter(torch.ones(1))], lr=lr) for lr in (0.0, 0.1))
    wrapper = OptimWrapper(torch.optim.SGD([frozen, moving], lr=0.2))
    warm_up = LinearLR(wrapper, start_factor=0.1, end=10)
    plateau = ReduceOnPlateauLR(wrapper, patience=0, min_value=[1e-3, 1e-2])
    runner = SimpleNamespace(optim_wrapper=wrapper, param_schedulers=[warm_up, plateau])
    add_to_optimizer(nn.Linear(1, 1), runner, 1e-4)
    group = wrapper.optimizer.param_groups[-1]
    assert group['lr'] == pytest.approx(1e-5)
    assert warm_up.base_values == [0, 0.1, 1e-4, 0.2]  # the last: what the wrapper keeps
    assert plateau.min_values == [1e-3, 1e-2, 1e-3, 1e-2]
    wrapper.optimizer.step()
    warm_up.step()
    assert group['lr'] / 1e-4 == pytest.approx(wrapper.optimizer.param_groups[1]['lr'] / 0.1)
