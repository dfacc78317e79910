"""Reading checkpoints: what cannot be used is refused with the file's name and the remedy."""

import os.path as osp
import pickle
import re

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

# Counters and index buffers that no model needs, and the layers of BERT that grounding leaves out.
_OPTIONAL = re.compile(r'(^|\.)(num_batches_tracked|position_ids|pooler\..*)$')
_CONVERT = 'convert an official TransVG checkpoint with tools/model_converters/transvg.py'


def check_checkpoint_path(path: str) -> None:
    """Raise FileNotFoundError unless ``path`` is a file or an address."""
    if '://' not in path and not osp.isfile(osp.expanduser(path)):
        raise FileNotFoundError(
            f'checkpoint {path} does not exist; train one with tools/train.py, convert one with '
            'tools/model_converters, or correct the path'
        )


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
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    state = _read_state(path)
    problem = _find_misfit(model.state_dict(), state)
    try:
        model.load_state_dict(state, strict=False)
    except ValueError as error:  # a layer that knows more, e.g. RegTokenHead
        problem = f'does not fit: {error}'
    except RuntimeError as error:
        problem = problem or f'does not fit: {error}'
    if problem:
        raise ValueError(
            f'checkpoint {path} {problem}; use the config that it was trained with, or {_CONVERT}'
        )


def _read_state(path: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without the prefix of distributed training."""
    check_checkpoint_path(path)
    try:
        content = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except Exception as error:  # damaged files raise nearly anything
        foreign = re.search(r'GLOBAL (\S+)', str(error))
        if isinstance(error, pickle.UnpicklingError) and foreign:
            raise ValueError(
                f'checkpoint {path} was not loaded: it holds {foreign[1]}, and reading that could '
                f'run foreign code; {_CONVERT}, save any other as a plain state_dict'
            ) from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f'checkpoint {path} cannot be read ({reason}): it is cut off or no checkpoint; copy '
            'or download it again'
        ) from error
    state = content.get('state_dict', content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(
            f'checkpoint {path} has no state_dict but a {type(content).__name__}; give one that '
            f'tools/train.py wrote, or {_CONVERT}'
        )
    return {
        str(name).removeprefix('module.'): tensor
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
    }


def _find_misfit(expected: dict[str, Tensor], state: dict[str, Tensor]) -> str | None:
    """What would leave weights of the model random."""
    if not expected.keys() & state.keys():
        return 'has no weight of this model'
    wrong = [k for k, v in expected.items() if k in state and state[k].shape != v.shape]
    if wrong:
        return f'has another shape for {_some(wrong)}'
    missing = [k for k in expected if k not in state and not _OPTIONAL.search(k)]
    return f'lacks {_some(missing)}' if missing else None


def _some(names: list[str]) -> str:
    return f'{len(names)} weights of this model ({", ".join(names[:3])}, ...)'
