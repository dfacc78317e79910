import math
from numbers import Real

import torch
from mmdet.registry import HOOKS, MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import reduce_mean
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from mmvg.checkpoints import unwrap
from mmvg.models.data_preprocessor import GroundingDataPreprocessor
from mmvg.models.losses import match_width

from .detector_inputs import channel_order_of, has_class_names, texts_of, to_rgb
from .teacher_training import Towers, add_to_optimizer
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
    picture of the batch, if it has one (a token that learned only what all targets have in common
    shows no difference), and the share of samples whose image token is padding (spec 3.3).

    Args:
        teacher (dict): Such as ``OpenCLIPTeacher``. With ``trainable=True`` it learns through its
            own parameter group, and its weights are saved and resumed with the checkpoint.
        image_tap, text_tap (dict): Where the tokens are taken from. Keys, by default Loc. 1 of mmvg:

            - ``module``: name of a submodule that gives B x N x C or Q x N x C tokens, or a map
              B x C x h x w. From ``bbox_head.fusion`` of mmvg the visual or text part is taken.
            - ``output``: index or key of the output, where it is a sequence or dict; may be left
              out for outputs of mmvg.
            - ``token``: ``'first_patch'`` (the paper's [VLS] read literally), ``'first_valid'``
              (first that is no padding), ``'mean_valid'``, ``'mean'`` (padding included),
              ``'learnable'`` (needs ``bbox_head.learnable_vls=True``); for text ``'cls'``, the
              first, or ``'mean'`` of all that are no padding (of all, if the inputs of the detector
              have no ``text_padding_mask`` of this shape).

        alpha, beta (float): Weights of image and text, 0 or more.
        loss (dict): Such as ``CosineDistillLoss``. It takes ``(student R x D, target R x d,
            avg_factor)``, divides a sum over the R rows by ``avg_factor``, and has an attribute
            ``pool_side``, see :func:`mmvg.models.losses.match_width`.
        view (str): What the teacher sees: ``'augmented'``, the network input; or ``'original'``, the
            picture as loaded, which the transform ``AddTeacherView`` provides and whose embedding
            can be cached.
        teacher_lr (float): Learning rate of a trainable teacher, scaled and scheduled as all others.
        channel_order (str, optional): ``'rgb'`` or ``'bgr'``, that of the network input. None: what
            follows from the data preprocessor, for pictures loaded as BGR, or as RGB if the config
            gives it ``rgb_to_bgr=True``.
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
        channel_order: str | None = None,
    ) -> None:
        if view not in ('augmented', 'original'):
            raise ValueError(f"view must be 'augmented' or 'original', not {view!r}")
        if channel_order not in (None, 'rgb', 'bgr'):
            raise ValueError(f"channel_order must be 'rgb', 'bgr' or None, not {channel_order!r}")
        for name, weight in (('alpha', alpha), ('beta', beta)):
            if not isinstance(weight, Real) or not 0 <= weight < math.inf:
                raise ValueError(f'{name} must be a number, 0 or more, not {weight!r}')
        self.weights = {kind: w for kind, w in (('image', alpha), ('text', beta)) if w}
        taps = dict(image=image_tap, text=text_tap)
        self.taps = {
            kind: TokenTap(kind, **{**LOCATION_1[kind], **(taps[kind] or {})})
            for kind in self.weights
        }
        self.teacher_cfg = teacher
        self.loss = MODELS.build(loss or dict(type='CosineDistillLoss'))
        if not hasattr(self.loss, 'pool_side'):
            raise ValueError(
                f'loss {type(self.loss).__name__} has no pool_side, so it is not for distillation; '
                'use CosineDistillLoss, L1DistillLoss, LargeMarginDistillLoss or one like them'
            )
        self.view = view
        self.teacher_lr = teacher_lr
        self.channel_order = channel_order
        self.teacher: nn.Module | None = None
        self._tower: nn.Module | None = None
        self._handles: list = []

    def before_run(self, runner: Runner) -> None:
        """Build the teacher when a training begins, before a checkpoint is resumed."""
        if not self.taps or not isinstance(runner.optim_wrapper, OptimWrapper):
            return
        if self._tower is not None:  # a test after the training is a run, too
            return
        model = unwrap(runner.model)
        self.check_model(model)
        self.check_pretrained()
        if self.channel_order is None:
            self.channel_order = channel_order_of(getattr(model, 'data_preprocessor', None), runner)
        self._tower = Towers(self.teacher.to(next(model.parameters()).device))
        if self.teacher.trainable:
            add_to_optimizer(self.teacher, runner, self.teacher_lr)
            if is_distributed():
                # The temperature of CLIP has no part in the distillation.
                self._tower = DistributedDataParallel(self._tower, find_unused_parameters=True)

    def check_pretrained(self) -> None:
        """Build the teacher; a training can call this early to say if its weights are missing."""
        if not self.taps or self.teacher is not None:
            return
        # The random numbers of the student do not depend on the teacher, nor its own on the run.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed sets the GPUs', too
            self.teacher = MODELS.build(self.teacher_cfg)

    def check_model(self, model: nn.Module) -> None:
        """Raise ValueError if the model lacks what is listened to."""
        model = unwrap(model)
        for tap in self.taps.values():
            tap.find(model)
        preprocessor = getattr(model, 'data_preprocessor', None)
        known = self.channel_order or hasattr(preprocessor, '_channel_conversion')
        if not known and 'image' in self.taps and self.view == 'augmented':
            raise ValueError(
                f'data_preprocessor {type(preprocessor).__name__} does not tell the channel order '
                "of the network input; set channel_order='rgb' or 'bgr' of CLIPDistillationHook"
            )

    def check_data(self, dataset: Dataset) -> None:
        """Raise ValueError if the first training sample lacks the view that the teacher takes."""
        if 'image' in self.taps and self.view == 'original':
            self._check_view(dataset[0]['data_samples'])

    def _check_view(self, sample: DetDataSample) -> None:
        if 'teacher_view' not in sample or 'teacher_key' not in sample:
            raise ValueError(
                "view='original' needs the transform AddTeacherView right after the loading of the "
                "picture in the training pipeline; and where MMDetection's PackDetInputs ends it, "
                "'teacher_view' and 'teacher_key' among its meta_keys"
            )
        wanted = getattr(self.teacher, 'view_cfg', None)
        made = dict(size=len(sample.teacher_view), preproc=sample.teacher_key.partition(':')[0])
        if wanted is not None and made != wanted:
            raise ValueError(
                'AddTeacherView has size={size}, preproc={preproc!r}'.format(**made)
                + '; for this teacher set size={size}, preproc={preproc!r}'.format(**wanted)
            )

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
        model = unwrap(runner.model)
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
            inputs = dict(
                images=inputs,
                image_padding_mask=GroundingDataPreprocessor.image_padding_mask(inputs, samples),
                image_index=torch.arange(len(inputs), device=inputs.device),
            )
        index, added = inputs['image_index'], {}
        targets = self._encode(self._teacher_inputs(model, inputs, samples), samples)
        for kind, tap in self.taps.items():
            tap.listening = False
            student, padded = tap.take(inputs)
            target = targets[kind]
            if kind == 'image' and len(student) != len(target):
                target = target[index]
            if len(student) != len(target):
                raise ValueError(
                    f"{kind}_tap.module '{tap.name}' gives {len(student)} rows for {len(samples)} "
                    f'images and {len(index)} queries; tap a module that gives one for each of either'
                )
            of_image = index
            if len(student) != len(index):
                of_image = torch.arange(len(samples), device=index.device)
            other = None
            if len(samples) > 1:  # the first row of an image half a batch away
                away = (of_image + len(samples) // 2) % len(samples)
                other = torch.searchsorted(of_image, away)
            added.update(self._compare(kind, student.float(), target, padded, other))
        return {**losses, **added}

    def _encode(
        self, arguments: dict[str, tuple], samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        try:
            return self._tower(arguments)
        except ValueError as error:
            if 'text' in arguments and any(has_class_names(sample) for sample in samples):
                raise ValueError(
                    f'{error}. It is the list of all class names, which tells nothing of a picture: '
                    'set beta=0 of CLIPDistillationHook'
                ) from error
            raise

    def _teacher_inputs(
        self, model: nn.Module, inputs: dict[str, Tensor], samples: list[DetDataSample]
    ) -> dict[str, tuple]:
        """Arguments of the towers in use."""
        arguments = {}
        if 'text' in self.taps:
            arguments['text'] = ([text for sample in samples for text in texts_of(sample)],)
        if 'image' in self.taps and self.view == 'augmented':
            images = to_rgb(model.data_preprocessor, inputs['images'], self.channel_order)
            arguments['image'] = (images, inputs.get('image_padding_mask'))
        elif 'image' in self.taps:
            for sample in samples:
                self._check_view(sample)
            views = torch.stack([torch.as_tensor(s.teacher_view) for s in samples])
            views = views.permute(0, 3, 1, 2).to(inputs['images'].device).float()
            arguments['image'] = (views, None, [sample.teacher_key for sample in samples])
        return arguments

    def _compare(
        self,
        kind: str,
        student: Tensor,
        target: Tensor,
        padded: Tensor | None,
        other: Tensor | None,
    ) -> dict[str, Tensor]:
        """The loss, and what is logged beside it; names without 'loss' are not summed."""
        count = reduce_mean(student.new_full((), len(student)))
        loss = self.weights[kind] * self.loss(student, target, avg_factor=count)
        name = f'distill_{kind}'
        with torch.no_grad():
            student, target = match_width(student, target, self.loss.pool_side)
            logged = {f'{name}_cos': torch.cosine_similarity(student, target).mean()}
            if other is not None:
                cosine = torch.cosine_similarity(student, target[other])
                logged[f'{name}_cos_other'] = cosine.mean()
        if padded is not None:
            logged[f'{name}_padding'] = padded.float().mean()
        return {f'loss_{name}': loss, **logged}
