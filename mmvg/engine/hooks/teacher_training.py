"""What a teacher needs to take part in a training: one forward pass and a parameter group."""

from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Towers(nn.Module):
    """Both towers of a teacher in one forward pass, which is what distributed training wraps."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, arguments: dict[str, tuple]) -> dict[str, Tensor]:
        """Embeddings by tower, ``'image'`` and ``'text'``, given the arguments of each in use."""
        encode = dict(image=self.teacher.encode_images, text=self.teacher.encode_texts)
        return {kind: encode[kind](*args) for kind, args in arguments.items()}


def add_to_optimizer(teacher: nn.Module, runner: Runner, lr: float) -> None:
    """Let a teacher learn in a group of its own, scaled and scheduled like the others."""
    optimizer, rate = runner.optim_wrapper.optimizer, lr * _lr_ratio(runner)
    # A warm-up may have begun already.
    moved = [g['lr'] / g['initial_lr'] for g in optimizer.param_groups if g.get('initial_lr')]
    optimizer.add_param_group(
        dict(
            name='distillation_teacher',
            params=[p for p in teacher.parameters() if p.requires_grad],
            lr=rate * (moved[0] if moved else 1),
            initial_lr=rate,
        )
    )
    *others, group = optimizer.param_groups
    for scheduler in runner.param_schedulers or []:
        name = scheduler.param_name
        initial = group.setdefault(f'initial_{name}', group[name])
        # What a scheduler keeps per group; that of the whole optimizer, if any, stays last.
        if hasattr(scheduler, 'base_values'):
            scheduler.base_values.insert(len(others), initial)
        if hasattr(scheduler, 'min_values'):
            scheduler.min_values.insert(len(others), min(scheduler.min_values))


def _lr_ratio(runner: Runner) -> float:
    """What the runner has scaled the other learning rates by (``auto_scale_lr``)."""
    scaling = getattr(runner, 'auto_scale_lr', None) or {}
    if not scaling.get('enable', False):
        return 1.0
    loader = runner._train_dataloader
    size = loader.batch_size if isinstance(loader, DataLoader) else loader['batch_size']
    ratio = runner.world_size * size / scaling['base_batch_size']
    runner.logger.info(f'teacher_lr of the distillation is scaled by {ratio}, too')
    return ratio
