"""Whether the weights of a checkpoint fit a model."""

import logging
import re
from collections import Counter

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from .messages import CONVERT, some
from .reading import exists, read_checkpoint

# Counters and index buffers that no model needs, and the layers of BERT that grounding leaves out.
_OPTIONAL = re.compile(
    r'(^|\.)(num_batches_tracked|position_ids|relative_position_index|pooler\..*)$'
)
# What grounding adds to the backbone and neck of a detector.
_GROUNDING = re.compile(r'^(backbone|neck)\.gates\.')
# DETR and the original Swin, which share a few names with ours, and their grounders; bottom-up attention.
_UNCONVERTED = re.compile(
    r'(backbone\.0\.body|backbone\.layers\.\d+\.blocks|visumodel|RCNN_(base|top))\.'
)
_INITIAL = (
    'convert a detector with tools/model_converters/detr.py (for TransVG), swin_mask_rcnn.py (for '
    "QRNet) or bottom_up.py (for ReIR) and give its path as load_from; the README in the config's "
    'folder says where to get one. load_from=None trains without'
)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside of wrappers for distribution or test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def load_weights(model: nn.Module, path: str) -> None:
    """Load a checkpoint that has every weight of the model.

    mmengine only warns of missing and misshapen weights and leaves them random; it stays in charge
    where that is wanted, for the initial weights of a training.

    Args:
        model (nn.Module): May be wrapped for distribution or for test-time augmentation.
        path (str): File or address. Names may have the prefix ``module.``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is cut off, needs unsafe unpickling or belongs to another model.
    """
    model = unwrap(model)
    state, _ = read_checkpoint(path)
    problem = _find_misfit(model.state_dict(), state)
    try:
        model.load_state_dict(state, strict=False)
    except ValueError as error:  # a layer that knows more, e.g. RegTokenHead
        problem = f'does not fit: {error}'
    except RuntimeError as error:
        problem = problem or f'does not fit: {error}'
    if problem:
        raise ValueError(
            f'checkpoint {path} {problem}; use the config that it was trained with, or {CONVERT}'
        )


def check_initial_weights(model: nn.Module, path: str | None) -> None:
    """Check ``load_from`` before a training, and log how much of the model it provides.

    Initial weights may be partial, and mmengine trains with whatever fits, even with nothing.

    Args:
        model (nn.Module): May be wrapped for distribution.
        path (str, optional): File or address.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, has unconverted names, tensors of another shape, a part of
            the backbone or of another frozen part only, or nothing that fits the model; or if it lacks
            a frozen part, which training would leave at random, and which loads nothing itself.
    """
    if not path:
        print_log(
            'load_from is not set: parts without pretrained weights of their own start at random; '
            "the README in the config's folder says which initial weights a recipe needs",
            'current',
            logging.WARNING,
        )
        return
    check_initial_path(path)
    state, _ = read_checkpoint(path, mmap=True)
    model = unwrap(model)
    expected = {k: v for k, v in model.state_dict().items() if not _OPTIONAL.search(k)}
    fitting = [k for k, v in expected.items() if k in state and state[k].shape == v.shape]
    foreign = [name for name in state if _UNCONVERTED.match(name) and name not in expected]
    if foreign or not fitting:
        found = ', '.join((foreign or list(state))[:3]) or 'no tensors that mmengine would load'
        raise ValueError(f'load_from: {path} was not made for mmvg: it has {found}; {_INITIAL}')
    problem = _find_initial_misfit(model, expected, state)
    if problem:
        raise ValueError(f'load_from: {path} {problem}; {_INITIAL}')
    print_log(f'{path} provides these tensors (others start as the config says):', 'current')
    provided = Counter(_part(name) for name in fitting)
    for part, total in Counter(_part(name) for name in expected).items():
        print_log(f'  {part} {provided[part]} of {total}', 'current')


def check_initial_path(path: str) -> None:
    """Raise FileNotFoundError unless ``load_from`` is a file or an address."""
    if not exists(path):
        raise FileNotFoundError(f'load_from: {path} does not exist; {_INITIAL}')


def _find_initial_misfit(
    model: nn.Module, expected: dict[str, Tensor], state: dict[str, Tensor]
) -> str | None:
    """A head may be of another kind, but half a backbone is a mistake, or a frozen part without weights."""
    frozen = {name for name, part in model.named_children() if _is_frozen(part)}
    names = [k for k in expected if not _GROUNDING.search(k)]
    for part in sorted({'backbone', 'neck'} | frozen):
        own = [k for k in names if k.startswith(f'{part}.')]
        wrong = [k for k in own if k in state and state[k].shape != expected[k].shape]
        if wrong:
            return f'has another shape for {_count(wrong)}: it comes from a model of another size'
        lacking = [k for k in own if k not in state]
        if len(lacking) < len(own) and lacking and part != 'neck':
            return f'lacks {_count(lacking)}: it comes from a model of another size'
        if lacking and part in frozen and not _loads(getattr(model, part)):
            return f'lacks {_count(lacking)}: {part} is frozen, and would stay random'
    return None


def _is_frozen(part: nn.Module) -> bool:
    parameters = list(part.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def _loads(part: nn.Module) -> bool:
    """Whether weights come from elsewhere: init_cfg, a BERT of its own."""
    for module in part.modules():
        init_cfg = getattr(module, 'init_cfg', None) or []
        for one in init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]:
            if one.get('type') == 'Pretrained':
                return True
        if getattr(module, 'pretrained', None):  # a BertEncoder
            return True
    return False


def _part(name: str) -> str:
    """Top-level part of the model; what grounding adds to a detector's part is one of its own."""
    added = _GROUNDING.search(name)
    return name[: added.end() - 1] if added else name.split('.')[0]


def _find_misfit(expected: dict[str, Tensor], state: dict[str, Tensor]) -> str | None:
    """What would leave weights of the model random."""
    if not expected.keys() & state.keys():
        return 'has no weight of this model'
    wrong = [k for k, v in expected.items() if k in state and state[k].shape != v.shape]
    if wrong:
        return f'has another shape for {_count(wrong)}'
    missing = [k for k in expected if k not in state and not _OPTIONAL.search(k)]
    return f'lacks {_count(missing)}' if missing else None


def _count(names: list[str]) -> str:
    return f'{len(names)} weights of this model ({some(names, 3)})'
