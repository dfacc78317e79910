import torch
from mmdet.registry import HOOKS, MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import reduce_mean
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmvg.models.losses import match_width

from .token_tap import TokenTap

LOCATION_1 = dict(
    image=dict(module='bbox_head.fusion', token='first_patch'),
    text=dict(module='bbox_head.fusion', token='cls'),
)


@HOOKS.register_module()
class CLIPDistillationHook(Hook):
    """Distil the image and text towers of CLIP into a running detector (EpmVG, Eq. 5-8; spec 3).

    During training the hook listens to two submodules of the detector, picks one token per query
    (or image) from what they give, and adds ``loss_distill_image`` = alpha * L(token, CLIP image)
    and ``loss_distill_text`` = beta * L(token, CLIP text) to the detector's losses. Any detector
    will do; nothing of the hook is in the model, its checkpoints or inference. With ``alpha=0`` or
    ``beta=0`` that modality is off; with both the hook does nothing at all.

    Logged beside the losses: the cosine of token and target, the cosine to the target of another
    sample of the batch (a token that learned only what all targets have in common shows no
    difference), and the share of samples whose image token is padding (spec 3.3).

    Args:
        teacher (dict): Such as ``OpenCLIPTeacher``. With ``trainable=True`` it learns through its
            own parameter group, and its weights are saved and resumed with the checkpoint.
        image_tap, text_tap (dict): Where the tokens are taken from. Keys:

            - ``module``: name of a submodule that gives B x N x C or Q x N x C tokens, or a map
              B x C x h x w. From ``bbox_head.fusion`` of mmvg the visual or text part is taken.
            - ``output``: index or key of the output, where it is a sequence or dict; may be left
              out for outputs of mmvg.
            - ``token``: ``'first_patch'`` (the paper's [VLS] read literally), ``'first_valid'``
              (first that is no padding), ``'mean_valid'``, ``'mean'``, ``'learnable'`` (needs
              ``bbox_head.learnable_vls=True``); for text ``'cls'``, the first.

        alpha, beta (float): Weights of image and text.
        loss (dict): Such as ``CosineDistillLoss``.
        view (str): What the teacher sees: ``'augmented'``, the network input; or ``'original'``, the
            picture as loaded, which the transform ``AddTeacherView`` provides and whose embedding
            can be cached.
        teacher_lr (float): Learning rate of a trainable teacher.
    """

    def __init__(
        self,
        teacher: dict,
        image_tap: dict | None = None,
        text_tap: dict | None = None,
        alpha: float = 1.5,
        beta: float = 2.0,
        loss: dict | None = None,
        view: str = 'augmented',
        teacher_lr: float = 1e-5,
    ) -> None:
        if view not in ('augmented', 'original'):
            raise ValueError(f"view must be 'augmented' or 'original', not {view!r}")
        self.weights = {kind: w for kind, w in (('image', alpha), ('text', beta)) if w}
        taps = dict(image=image_tap, text=text_tap)
        self.taps = {
            kind: TokenTap(kind, **(taps[kind] or LOCATION_1[kind])) for kind in self.weights
        }
        self.teacher_cfg = teacher
        self.loss = MODELS.build(loss or dict(type='CosineDistillLoss'))
        self.view = view
        self.teacher_lr = teacher_lr
        self.teacher: nn.Module | None = None
        self._handles: list = []

    def before_run(self, runner: Runner) -> None:
        """Build the teacher when a training begins, before a checkpoint is resumed."""
        if not self.taps or not isinstance(runner.optim_wrapper, OptimWrapper):
            return
        model = _unwrap(runner.model)
        for tap in self.taps.values():
            tap.find(model)
        self.check_pretrained()
        self._tower = _Towers(self.teacher.to(next(model.parameters()).device))
        if self.teacher.trainable:
            self._add_to_optimizer(runner)
            if is_distributed():
                # The temperature of CLIP has no part in the distillation.
                self._tower = DistributedDataParallel(self._tower, find_unused_parameters=True)

    def check_pretrained(self) -> None:
        """Build the teacher; a training can call this early to say if its weights are missing."""
        if not self.taps or self.teacher is not None:
            return
        # The random numbers of the student do not depend on the teacher, nor its own on the run.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.teacher = MODELS.build(self.teacher_cfg)

    def _add_to_optimizer(self, runner: Runner) -> None:
        """A group of its own, scheduled like the others."""
        optimizer = runner.optim_wrapper.optimizer
        first = optimizer.param_groups[0]
        progress = first['lr'] / first.get('initial_lr', first['lr'])  # a warm-up has begun already
        optimizer.add_param_group(
            dict(
                name='distillation_teacher',
                params=[p for p in self.teacher.parameters() if p.requires_grad],
                lr=self.teacher_lr * progress,
                initial_lr=self.teacher_lr,
            )
        )
        group = optimizer.param_groups[-1]
        for scheduler in runner.param_schedulers or []:
            name = scheduler.param_name
            scheduler.base_values.append(group.setdefault(f'initial_{name}', group[name]))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """A teacher that learns is saved beside the model."""
        if self.teacher is not None and self.teacher.trainable:
            checkpoint['distillation_teacher'] = self.teacher.state_dict()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Continue with the teacher of a resumed checkpoint."""
        if self.teacher is None or not self.teacher.trainable or not runner._resume:
            return
        if 'distillation_teacher' not in checkpoint:
            raise ValueError(
                'the checkpoint to resume from has no distillation_teacher: it was trained with a '
                'frozen one; set teacher.trainable=False, or start anew with load_from'
            )
        self.teacher.load_state_dict(checkpoint['distillation_teacher'])

    def before_train(self, runner: Runner) -> None:
        """Listen, now that copies of the model (EMA) have been made."""
        if self.teacher is None:
            return
        model = _unwrap(runner.model)
        self.teacher.train()  # a frozen one stays in evaluation mode
        for tap in self.taps.values():
            tap.attach(model)
        self._handles = [
            model.register_forward_pre_hook(self._start, with_kwargs=True),
            model.register_forward_hook(self._add_losses, with_kwargs=True),
        ]

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        for listener in (*self.taps.values(), *self._handles):
            listener.remove()

    def _start(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        """A forward pass of the detector begins: listen if it is a training step."""
        for tap in self.taps.values():
            tap.listening = model.training and kwargs.get('mode') == 'loss'

    def _add_losses(
        self, model: nn.Module, args: tuple, kwargs: dict, losses: dict[str, Tensor]
    ) -> dict[str, Tensor] | None:
        if not all(tap.listening for tap in self.taps.values()):
            return None
        inputs, samples = kwargs['inputs'], kwargs['data_samples']
        if not isinstance(inputs, dict):  # of a detector of MMDetection: images only
            inputs = dict(images=inputs, image_index=torch.arange(len(inputs)).to(inputs.device))
        index, added = inputs['image_index'], {}
        targets = self._tower(self._teacher_inputs(model, inputs, samples))
        for kind, tap in self.taps.items():
            tap.listening = False
            student, padded = tap.take(inputs.get('image_padding_mask'), index)
            target = targets[kind]
            if kind == 'image' and len(student) != len(target):
                target = target[index]
            if len(student) != len(target):
                raise ValueError(
                    f"{kind}_tap.module '{tap.name}' gives {len(student)} rows for {len(samples)} "
                    f'images and {len(index)} queries; tap a module that gives one for each of either'
                )
            added.update(self._compare(kind, student.float(), target, padded))
        return {**losses, **added}

    def _teacher_inputs(
        self, model: nn.Module, inputs: dict[str, Tensor], samples: list[DetDataSample]
    ) -> dict[str, tuple]:
        """Arguments of the towers in use."""
        arguments = {}
        if 'text' in self.taps:
            arguments['text'] = ([text for sample in samples for text in _texts(sample)],)
        if 'image' in self.taps and self.view == 'augmented':
            images = _to_rgb(model.data_preprocessor, inputs['images'])
            arguments['image'] = (images, inputs.get('image_padding_mask'))
        elif 'image' in self.taps:
            if any('teacher_view' not in sample for sample in samples):
                raise ValueError(
                    "view='original' needs the transform AddTeacherView right after the loading of "
                    'the picture in the training pipeline'
                )
            views = torch.stack([torch.as_tensor(s.teacher_view) for s in samples])
            views = views.permute(0, 3, 1, 2).to(inputs['images'].device).float()
            arguments['image'] = (views, None, [sample.teacher_key for sample in samples])
        return arguments

    def _compare(
        self, kind: str, student: Tensor, target: Tensor, padded: Tensor | None
    ) -> dict[str, Tensor]:
        """The loss, and what is logged beside it; names without 'loss' are not summed."""
        count = reduce_mean(student.new_full((), len(student)))
        loss = self.weights[kind] * self.loss(student, target, avg_factor=count)
        name = f'distill_{kind}'
        with torch.no_grad():
            student, target = match_width(student, target, self.loss.pool_side)
            cosine = torch.cosine_similarity(student, target)
            other = torch.cosine_similarity(student, target.roll(len(target) // 2, 0))
        logged = {f'{name}_cos': cosine.mean(), f'{name}_cos_other': other.mean()}
        if padded is not None:
            logged[f'{name}_padding'] = padded.float().mean()
        return {f'loss_{name}': loss, **logged}


class _Towers(nn.Module):
    """Both towers of a teacher in one forward pass, which is what distributed training wraps."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, arguments: dict[str, tuple]) -> dict[str, Tensor]:
        encode = dict(image=self.teacher.encode_images, text=self.teacher.encode_texts)
        return {kind: encode[kind](*args) for kind, args in arguments.items()}


def _unwrap(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _texts(sample: DetDataSample) -> list[str]:
    """The queries of a sample; of a detector of MMDetection its one text."""
    if 'queries' in sample:
        return list(sample.queries)
    return [sample.text if isinstance(sample.text, str) else '. '.join(sample.text)]


def _to_rgb(preprocessor: nn.Module, images: Tensor) -> Tensor:
    """Undo the normalisation of a network input: RGB, 0 to 255."""
    if getattr(preprocessor, '_enable_normalize', False):
        images = images * preprocessor.std + preprocessor.mean
    return images if preprocessor._channel_conversion else images.flip(1)
