"""A training that is killed again and again ends with the weights of one that never was."""

import os
import random
import signal
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner

import mmvg  # noqa: F401

load_checkpoint = CheckpointLoader.load_checkpoint  # reads what mmengine stores
CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'transvg' / 'transvg_shapes.py'
EPOCHS, BATCHES = 4, 3


def tiny_config(work_dir):
    """The Shapes default at a size that trains in a second, dropout and augmentation on."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'ERROR'
    cfg.resume = True
    cfg.train_cfg.max_epochs = EPOCHS
    cfg.train_dataloader.batch_size = 4
    cfg.train_dataloader.dataset.num_scenes = 4 * BATCHES
    cfg.val_dataloader.dataset.num_scenes = 8
    cfg.val_dataloader.num_workers = 0
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.model.visual_encoder.dropout = cfg.model.bbox_head.dropout = 0.1
    cfg.model.language_model.config.hidden_dropout_prob = 0.1
    cfg.optim_wrapper.constructor = 'GroupOptimWrapperConstructor'
    cfg.optim_wrapper.paramwise_cfg = dict(
        groups=dict(visual=dict(prefixes=['backbone', 'neck', 'visual_encoder'], lr=1e-4))
    )
    return cfg


class KillAtIteration(Hook):
    """Ends the process, as SIGKILL does, when so many iterations of this process are over."""

    def __init__(self, iterations):
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.iterations -= 1
        if self.iterations == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_at_write(number):
    """Arrange for SIGKILL while the file number ``number`` that is synchronised is half written."""
    synchronise, left = os.fsync, [number]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] == 0:
            path = os.readlink(f'/proc/self/fd/{descriptor}')
            if os.path.isfile(path):
                os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        synchronise(descriptor)

    os.fsync = fsync


def train(work_dir, kill=None, count=None):
    torch.set_num_threads(1)
    cfg = tiny_config(work_dir)
    runner = Runner.from_cfg(cfg)
    if kill == 'iteration':
        runner.register_hook(KillAtIteration(count))
    elif kill == 'write':
        kill_at_write(count)
    runner.train()
    runner.train_dataloader._iterator = None  # end the worker without waiting


def run(processes, *args):
    process = processes.Process(target=train, args=args)
    process.start()
    process.join()
    return process.exitcode


def final_state(work_dir):
    last = (work_dir / 'last_checkpoint').read_text()
    assert Path(last).name == f'epoch_{EPOCHS}.pth'
    checkpoint = load_checkpoint(last)
    best = [path.name for path in work_dir.glob('best_*.pth')]
    return checkpoint['state_dict'], checkpoint['optimizer']['state'], best


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir('/proc/self/fd'), reason='half-written files need /proc')
def test_killed_and_resumed_equals_unbroken(tmp_path, processes):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    assert run(processes, whole) == 0
    draw = random.Random(0)
    kills = [
        ('iteration', draw.randint(1, BATCHES)),  # before there is a checkpoint
        ('write', 1),  # within the first checkpoint
        ('iteration', draw.randint(BATCHES + 1, 2 * BATCHES)),
        ('write', draw.randint(3, 8)),  # within last_checkpoint, a best checkpoint or another
        ('iteration', draw.randint(1, BATCHES)),
        ('write', draw.randint(1, 6)),
    ]
    for kill, count in kills:
        assert run(processes, broken, kill, count) == -signal.SIGKILL, (kill, count)
    assert run(processes, broken) == 0

    weights, optimizer, best = final_state(whole)
    resumed_weights, resumed_optimizer, resumed_best = final_state(broken)
    assert weights.keys() == resumed_weights.keys() and resumed_best == best
    for name, tensor in weights.items():
        assert torch.equal(tensor, resumed_weights[name]), name
    for index, state in optimizer.items():
        for key, tensor in state.items():
            assert torch.equal(tensor, resumed_optimizer[index][key]), (index, key)
    assert not list(broken.glob('.*'))


@pytest.mark.slow
def test_killed_from_outside_at_any_time(tmp_path, processes):
    """SIGKILL from another process, after delays that fall anywhere in training."""
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    assert run(processes, whole) == 0
    draw, exitcode, kills = random.Random(1), -signal.SIGKILL, 0
    while exitcode == -signal.SIGKILL:
        process = processes.Process(target=train, args=(broken,))
        process.start()
        if kills < 6:
            process.join(timeout=draw.uniform(0.5, 4))
            process.kill()
            kills += 1
        process.join()
        exitcode = process.exitcode
    assert exitcode == 0
    weights, _, best = final_state(whole)
    resumed_weights, _, resumed_best = final_state(broken)
    assert resumed_best == best
    for name, tensor in weights.items():
        assert torch.equal(tensor, resumed_weights[name]), name
