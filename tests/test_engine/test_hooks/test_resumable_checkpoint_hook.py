"""ResumableCheckpointHook: a run that ends at any instant resumes as if nothing had happened."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from mmvg.engine import ResumableCheckpointHook
from mmvg.engine.hooks.resumable_checkpoint_hook import AtomicLocalBackend

load_checkpoint = CheckpointLoader.load_checkpoint  # reads what mmengine stores
SCORES = {1: 0.2, 2: 0.5, 3: 0.5}  # validation score after each epoch: epoch 2 is the best
EPOCHS = len(SCORES)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the training process handles it."""


class CountingModel(BaseModel):
    """One weight, and how many steps it has taken."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    def forward(self, inputs, mode='tensor'):
        if mode == 'loss':
            self.steps += 1
            return dict(loss=self.weight.square().sum())
        return [int(self.steps)]


class ScriptedScore(BaseMetric):
    """The score of the epoch that the model has reached."""

    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return dict(acc=SCORES[results[0]])


def train(work_dir, resume=False, training=True, **hook_cfg):
    loader = dict(
        batch_size=1,
        dataset=[dict(inputs=torch.zeros(1))],
        collate_fn=dict(type='pseudo_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    hook = dict(type=ResumableCheckpointHook, interval=1, max_keep_ckpts=1, save_best='acc')
    runner = Runner(
        CountingModel(),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS, val_interval=1),
        val_dataloader=loader,
        val_evaluator=dict(type=ScriptedScore),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        default_hooks=dict(checkpoint={**hook, **hook_cfg}, logger=dict(type='LoggerHook')),
        randomness=dict(seed=0),
        resume=resume,
        log_level='ERROR',
        experiment_name=f'{work_dir.name}_{resume}_{os.urandom(4).hex()}',
    )
    runner.train() if training else runner.val()
    return runner


def outcome(work_dir):
    """Names of the files that training leaves (but for the config), and the last weight."""
    files = {path.name for path in work_dir.iterdir() if path.is_file() and path.suffix != '.py'}
    last = Path((work_dir / 'last_checkpoint').read_text())
    return files, load_checkpoint(str(last))['state_dict']['weight'].item()


class FileSystem:
    """Records what happens to checkpoint files and ends the run before operation ``kill_at``."""

    def __init__(self, monkeypatch, kill_at=None):
        self.operations = []
        self.kill_at = kill_at
        for name in ('replace', 'remove', 'fsync'):
            monkeypatch.setattr(os, name, self._watch(name, getattr(os, name)))

    def _watch(self, name, function):

        def watched(*args):
            path = os.readlink(f'/proc/self/fd/{args[0]}') if name == 'fsync' else args[-1]
            if path.endswith(('.pth', 'last_checkpoint', '.mmvg-tmp')):
                if len(self.operations) == self.kill_at:
                    if name == 'fsync':
                        os.truncate(path, os.path.getsize(path) // 2)  # written in part only
                    raise Killed
                self.operations.append((name, os.path.basename(path)))
            return function(*args)

        return watched


@pytest.fixture
def unbroken(tmp_path):
    train(tmp_path / 'unbroken')
    return outcome(tmp_path / 'unbroken')


def test_unbroken_run_keeps_what_mmengine_keeps(tmp_path, unbroken):
    train(tmp_path / 'mmengine', type=CheckpointHook)
    assert outcome(tmp_path / 'mmengine') == unbroken
    assert unbroken[0] == {'best_acc_epoch_2.pth', f'epoch_{EPOCHS}.pth', 'last_checkpoint'}


def test_order_of_operations(tmp_path, monkeypatch):
    files = FileSystem(monkeypatch)
    train(tmp_path / 'run')
    done = [operation for operation in files.operations if operation[0] != 'fsync']
    second_epoch = done.index(('replace', 'epoch_2.pth'))
    assert done[second_epoch : second_epoch + 8] == [
        ('replace', 'epoch_2.pth'),
        ('replace', 'last_checkpoint'),
        ('remove', 'epoch_1.pth'),
        ('replace', 'best_acc_epoch_2.pth'),
        ('remove', 'best_acc_epoch_1.pth'),
        ('replace', 'epoch_2.pth'),  # with the new best score
        ('replace', 'last_checkpoint'),
        ('replace', 'epoch_3.pth'),
    ]


def test_a_run_killed_at_any_file_operation_resumes(tmp_path, monkeypatch, unbroken):
    kill_at = 0
    while True:
        work_dir = tmp_path / f'killed_{kill_at}'
        with monkeypatch.context() as patch:
            FileSystem(patch, kill_at)
            try:
                train(work_dir)
                break
            except Killed:
                pass
        if (work_dir / 'last_checkpoint').exists():
            last = (work_dir / 'last_checkpoint').read_text()
            assert 'state_dict' in load_checkpoint(last)
        train(work_dir, resume=True)
        assert outcome(work_dir) == unbroken, f'killed before operation {kill_at}'
        kill_at += 1
    assert kill_at > 20


def test_validation_that_was_cut_off_is_done_on_resume(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(SCORES, 2, None)  # the second validation ends the run
        patch.setattr(ResumableCheckpointHook, '_save_best_checkpoint', _kill_on_none)
        with pytest.raises(Killed):
            train(tmp_path / 'run')
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()
    runner = train(tmp_path / 'run', resume=True)
    assert runner.message_hub.get_info('best_score') == 0.5
    assert runner.message_hub.get_info('best_ckpt').endswith('best_acc_epoch_2.pth')


def _kill_on_none(self, runner, metrics):
    if metrics['acc'] is None:
        raise Killed


def test_resume_does_not_repeat_a_finished_validation(tmp_path, monkeypatch):
    train(tmp_path / 'run', max_keep_ckpts=-1)
    # The best score came with epoch 2, whose checkpoint was therefore written after its validation.
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'epoch_2.pth'))
    validated = []
    compute = ScriptedScore.compute_metrics
    monkeypatch.setattr(
        ScriptedScore,
        'compute_metrics',
        lambda self, results: validated.append(results[0]) or compute(self, results),
    )
    train(tmp_path / 'run', resume=True, max_keep_ckpts=-1)
    assert validated == [3]


def test_several_checkpoints_are_kept_in_order(tmp_path):
    train(tmp_path / 'run', max_keep_ckpts=2, save_best=None)
    names = {path.name for path in (tmp_path / 'run').glob('*.pth')}
    assert names == {'epoch_2.pth', 'epoch_3.pth'}


def test_out_dir_and_several_best_scores(tmp_path):
    train(tmp_path / 'run', out_dir=str(tmp_path / 'out'), save_best=['acc'], rule='greater')
    names = {path.name for path in (tmp_path / 'out' / 'run').iterdir()}
    assert names == {'best_acc_epoch_2.pth', 'epoch_3.pth'}
    last = (tmp_path / 'run' / 'last_checkpoint').read_text()
    assert last == str(tmp_path / 'out' / 'run' / 'epoch_3.pth')


def test_validation_alone_saves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, 0, 0.1)
    train(tmp_path / 'run', training=False)
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_other_storage_keeps_the_behaviour_of_mmengine(tmp_path):
    hook = ResumableCheckpointHook(interval=1)
    hook.file_backend = object()
    saved = []

    class FakeRunner:
        work_dir = str(tmp_path)
        message_hub = type('Hub', (), dict(update_info=lambda self, *args: None))()

        def save_checkpoint(self, *args, **kwargs):
            saved.append(kwargs['backend_args'])

    hook.out_dir = 's3://bucket'
    hook.file_backend = type('Backend', (), dict(join_path=lambda self, *parts: '/'.join(parts)))()
    hook._save_checkpoint_with_step(FakeRunner(), 1, dict())
    assert saved == [None]
    assert (tmp_path / 'last_checkpoint').read_text() == 's3://bucket/epoch_1.pth'


def test_backend_writes_all_or_nothing(tmp_path, monkeypatch):
    backend = AtomicLocalBackend()
    target = tmp_path / 'folder' / 'file'
    backend.put(b'old', target)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', lambda descriptor: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            backend.put(b'new', target)
    assert target.read_bytes() == b'old'
    backend.put_text('new', target)
    assert target.read_text() == 'new'
    assert [path.name for path in target.parent.iterdir()] == ['file']
