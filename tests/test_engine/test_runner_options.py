"""Switches of MMEngine's runner that the README promises, on a real (small) training run."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

CHECKPOINTING = dict(
    backbone=dict(with_cp=True),
    visual_encoder=dict(with_cp=True),
    language_model=dict(with_cp=True),
    bbox_head=dict(with_cp=True),
)
OPTIONS = dict(
    plain={},
    ema=dict(custom_hooks=[dict(type='EMAHook', momentum=0.1)]),
    checkpointing=dict(model=CHECKPOINTING),
    compile=dict(compile=dict(backend='eager')),
    accumulation=dict(optim_wrapper=dict(accumulative_counts=2)),
    frozen=dict(model=dict(frozen_modules=['backbone', 'neck', 'visual_encoder'])),
)


@pytest.fixture
def train(repository, tmp_path):
    """Function that trains two epochs of two steps and returns the runner."""

    def run(options):
        cfg = Config.fromfile(repository / 'configs/transvg/transvg_shapes.py')
        cfg.merge_from_dict(
            dict(
                work_dir=str(tmp_path / 'work'),
                experiment_name=str(tmp_path),
                log_level='ERROR',
                train_dataloader=dict(
                    batch_size=4,
                    num_workers=0,
                    persistent_workers=False,
                    dataset=dict(num_scenes=8),
                ),
                val_dataloader=dict(num_workers=0, dataset=dict(num_scenes=4)),
                train_cfg=dict(max_epochs=2),
            )
        )
        cfg.param_scheduler = []
        cfg.merge_from_dict(options)
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return run


@pytest.mark.parametrize('name', OPTIONS)
def test_each_switch_trains(train, name, tmp_path):
    runner = train(OPTIONS[name])
    state = torch.load(tmp_path / 'work/epoch_2.pth')
    assert ('ema_state_dict' in state) == (name == 'ema')
    keys = [k for k in state['state_dict'] if k.startswith('bbox_head')]
    assert 'bbox_head.reg_token' in keys
    assert runner.iter == 4
