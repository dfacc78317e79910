import os
import os.path as osp
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

TEMPORARY_SUFFIX = '.mmvg-tmp'


@register_backend('atomic_local', force=True)
class AtomicLocalBackend(LocalBackend):
    """Local files that appear complete or not at all, whatever happens while they are written."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes next to ``filepath``, onto the disk, then rename them to it."""
        folder, name = osp.split(osp.abspath(filepath))
        os.makedirs(folder, exist_ok=True)
        temporary = osp.join(folder, f'.{name}{TEMPORARY_SUFFIX}')
        with open(temporary, 'wb') as f:
            f.write(obj)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, filepath)
        _sync_folder(folder)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text as :meth:`put` writes bytes."""
        self.put(obj.encode(encoding), filepath)


class _LateRemovalBackend(AtomicLocalBackend):
    """Notes down what is to be removed, for the time when a replacement is complete."""

    def __init__(self) -> None:
        self.outdated: list[str] = []

    def remove(self, filepath: str | Path) -> None:
        """Note a file for :meth:`remove_outdated`."""
        self.outdated.append(str(filepath))

    def rmtree(self, dir_path: str | Path) -> None:
        """Note a folder (some strategies save folders) for :meth:`remove_outdated`."""
        self.outdated.append(str(dir_path))

    def remove_outdated(self, keep: Iterable[str] = ()) -> None:
        """Remove all that was noted, but for paths in ``keep``."""
        outdated, self.outdated = self.outdated, []
        for path in set(outdated).difference(keep):
            if osp.isdir(path):
                super().rmtree(path)
            elif osp.isfile(path):
                super().remove(path)


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` for runs that may be killed at any instant.

    mmengine removes an outdated checkpoint before it writes the next one, writes checkpoints and
    ``last_checkpoint`` in place, and does not repeat a validation that was cut off. Here

    - a checkpoint appears complete or not at all, then ``last_checkpoint`` is replaced the same
      way, and only then the outdated checkpoint goes; a new best checkpoint is complete before its
      predecessor goes. A run resumed from ``last_checkpoint`` removes what its predecessor could
      not remove any more, half-written files included;
    - a run resumed from a checkpoint whose validation was due but not finished validates first, so
      that the best checkpoint is the one that an unbroken run would have kept.

    Together with :class:`EpochSeedHook` the resumed run repeats the unbroken one bit for bit, as
    long as ``accumulative_counts`` divides the iterations between two checkpoints (a checkpoint
    holds no half-accumulated gradients). The guarantees hold for local folders; other storage
    backends keep mmengine's behaviour. All arguments are those of ``CheckpointHook``.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose the backend, remove half-written files, finish a validation that was cut off."""
        super().before_train(runner)
        if isinstance(self.file_backend, LocalBackend):
            self.file_backend = _LateRemovalBackend()
            self.file_client_args, self.backend_args = None, dict(backend='atomic_local')
            if is_main_process():
                for folder in {str(self.out_dir), str(runner.work_dir)}:
                    for path in Path(folder).glob(f'.*{TEMPORARY_SUFFIX}'):
                        path.unlink()
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        self._finish_validation(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best checkpoint and record that this point of training has been validated.

        ``runner.val()`` alone, outside training, saves nothing.
        """
        if not hasattr(self, 'file_backend'):
            return
        runner.message_hub.update_info('last_validation', _progress(runner)[0])
        super().after_val_epoch(runner, metrics)

    def _finish_validation(self, runner: Runner) -> None:
        done, end = _progress(runner)
        loop = runner.train_loop
        if (
            runner.val_loop is None
            or done == 0
            or runner.message_hub.runtime_info.get('last_validation') == done
        ):
            return
        loop._decide_current_val_interval()
        if done >= loop.val_begin and (done % loop.val_interval == 0 or done == end):
            runner.logger.info(
                'The validation of the resumed checkpoint was not finished: '
                'validating before training goes on.'
            )
            runner.val_loop.run()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not isinstance(self.file_backend, _LateRemovalBackend):
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        # When this saves a new best score, the best checkpoint itself is complete by now.
        self._remove_outdated()
        self.last_ckpt = osp.join(str(self.out_dir), self.filename_tmpl.format(step))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        if self.max_keep_ckpts > 0:
            kept = [kept_step for kept_step in self.keep_ckpt_ids if kept_step != step] + [step]
            # The checkpoint also lists those that it makes outdated: if the run is killed before
            # they are removed, `before_train` of the resumed run removes them.
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            self.file_backend.put_text(self.last_ckpt, osp.join(runner.work_dir, 'last_checkpoint'))
        if self.max_keep_ckpts > 0:
            for outdated in kept[: -self.max_keep_ckpts]:
                self.file_backend.remove(
                    osp.join(str(self.out_dir), self.filename_tmpl.format(outdated))
                )
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        if isinstance(self.file_backend, _LateRemovalBackend):
            self._remove_outdated()

    def _remove_outdated(self) -> None:
        if is_main_process():
            best = [
                getattr(self, 'best_ckpt_path', None),
                *getattr(self, 'best_ckpt_path_dict', {}).values(),
            ]
            self.file_backend.remove_outdated(keep=[str(path) for path in best])


def _progress(runner: Runner) -> tuple[int, int]:
    """Steps of the training loop done and to do: epochs or iterations, as the loop counts."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch, loop.max_epochs
    return loop.iter, loop.max_iters


def _sync_folder(folder: str) -> None:
    """Bring a rename onto the disk, where the system can open folders."""
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
