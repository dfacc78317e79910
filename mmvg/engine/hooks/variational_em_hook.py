from itertools import pairwise

from mmdet.registry import HOOKS
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvg.checkpoints import load_weights, unwrap

_HISTORY = 'em_history'


@HOOKS.register_module()
class VariationalEMHook(Hook):
    """Alternates the phases of :class:`VideoTubeHead`, and ends the training (VCMA; spec vcma 1.8).

    After a warm-up come rounds: first phi learns (E-phase), then theta (M-phase), while beta rises
    linearly over the first rounds. Everything follows from the iteration, so a resumed run goes on in
    the middle of a round. Validate once per round (``val_interval`` = ``e_iters`` + ``m_iters``, and a
    warm-up of a multiple of that): training ends when, at the full beta, the metric fluctuates and no
    longer improves (:func:`should_stop`), and the model gets the weights of its best validation, which
    the checkpoint hook keeps (``save_best``). So validation labels choose the model, as in the paper;
    nothing else reads a label.

    DDP needs ``find_unused_parameters=True``: in each phase one network rests.

    Args:
        warmup_iters (int): Iterations of the contrast alone.
        e_iters, m_iters (int): Iterations of the phases of a round.
        ramp_rounds (float): Rounds until beta has its full value, and rounds begin to be judged.
        monitor (str): The metric, such as ``'p/m_vIoU'``.
        min_delta (float): Gains below are none.
        stop (bool): Whether to end the training early.
    """

    def __init__(
        self,
        warmup_iters: int,
        e_iters: int,
        m_iters: int,
        monitor: str,
        ramp_rounds: float = 2.0,
        min_delta: float = 0.1,
        stop: bool = True,
    ) -> None:
        if min(e_iters, m_iters) < 1:
            raise ValueError(f'e_iters and m_iters must be 1 or more, got {e_iters} and {m_iters}')
        self.warmup_iters = warmup_iters
        self.e_iters, self.m_iters = e_iters, m_iters
        self.monitor = monitor
        self.ramp_rounds = ramp_rounds
        self.min_delta = min_delta
        self.stop = stop

    def phase_at(self, iteration: int) -> tuple[str, float]:
        """Phase and share of beta of an iteration, from 0."""
        step = iteration - self.warmup_iters
        if step < 0:
            return 'warmup', 0.0
        rounds, within = divmod(step, self.e_iters + self.m_iters)
        done = rounds + within / (self.e_iters + self.m_iters)
        share = min(1.0, done / self.ramp_rounds) if self.ramp_rounds else 1.0
        return ('E' if within < self.e_iters else 'M'), share

    def before_train(self, runner: Runner) -> None:
        """End a training at once that had been ended when it was interrupted."""
        self._end_if_due(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict = None) -> None:
        """Set the phase."""
        head = unwrap(runner.model).tube_head
        head.phase, share = self.phase_at(runner.iter)
        head.beta_scale.fill_(share)
        if head.phase != self.phase_at(runner.iter - 1)[0]:
            _forget_losses(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Note the metric of a round."""
        if runner.iter <= self.warmup_iters:
            return
        if self.monitor not in metrics:
            raise ValueError(
                f'VariationalEMHook: there is no metric {self.monitor!r}; there are {list(metrics)}'
            )
        # By iteration: a validation that is repeated after an interruption counts once.
        history = dict(runner.message_hub.runtime_info.get(_HISTORY) or {})
        history[runner.iter] = float(metrics[self.monitor])
        runner.message_hub.update_info(_HISTORY, history)
        self._end_if_due(runner)

    def after_train(self, runner: Runner) -> None:
        """Give the model its best weights, in every process."""
        info = runner.message_hub.runtime_info
        best = info.get('best_ckpt') or info.get(f'best_ckpt_{self.monitor}')
        if best is None:
            runner.logger.warning(
                'VariationalEMHook: no best checkpoint was kept, so the model keeps its last weights; '
                f'set default_hooks.checkpoint.save_best={self.monitor!r}'
            )
            return
        if is_main_process():
            load_weights(runner.model, best)
        # The file lies where the main process wrote it, which may be the disk of another machine.
        for tensor in runner.model.state_dict().values():
            broadcast(tensor)
        runner.logger.info(f'VariationalEMHook: the model has the weights of {best}')

    def _end_if_due(self, runner: Runner) -> None:
        history = runner.message_hub.runtime_info.get(_HISTORY) or {}
        # While beta rises, no round shows what it is worth.
        ramp = self.ramp_rounds * (self.e_iters + self.m_iters)
        values = [history[i] for i in sorted(history) if i >= self.warmup_iters + ramp]
        if self.stop and should_stop(values, self.min_delta):
            runner.logger.info(
                f'VariationalEMHook: {self.monitor} fluctuates and no longer improves, training ends'
            )
            runner.train_loop.stop_training = True


def should_stop(values: list[float], min_delta: float = 0.1) -> bool:
    """Whether the metric of successive rounds has started to fluctuate and no longer improves.

    So when the best is two rounds old and the last three steps were not all up or all down, or when
    it is four rounds old. A value is best if it beats the best so far by ``min_delta``.
    """
    best, age = float('-inf'), 0
    for value in values:
        best, age = (value, 0) if value >= best + min_delta else (best, age + 1)
    steps = [b > a for a, b in pairwise(values[-4:])]
    fluctuates = len(steps) == 3 and len(set(steps)) > 1
    return age >= 4 or (age >= 2 and fluctuates)


def _forget_losses(runner: Runner) -> None:
    """So that the log does not go on showing those of the phase before."""
    scalars = runner.message_hub.log_scalars
    for name in [name for name in scalars if name.startswith('train/') and 'loss' in name]:
        del scalars[name]
