"""What the converters share: reading and checking official files, reporting, the command line."""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

# The folder of a script comes first on Python's path.
from names import INDEX_BUFFERS, State
from torch import nn

import mmvg
from mmvg.apis import concise_errors, load_config
from mmvg.checkpoints import read_file
from mmvg.checkpoints.messages import some

QRNET_RECIPE = 'qrnet_swin_refcoco'


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Begin messages about a file with its name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error


def transvg_recipe(converted: State) -> str:
    """Name of the official TransVG recipe with the ResNet of the tensors."""
    depth = 101 if any(name.startswith('backbone.layer3.6.') for name in converted) else 50
    return f'transvg_r{depth}_refcoco'


def model_config(config: str) -> ConfigDict:
    """The model section of a config, with no weights to be loaded elsewhere."""
    model_cfg = load_config(config).get('model', {})
    if 'language_model' not in model_cfg or 'num_visual_tokens' not in model_cfg.bbox_head:
        raise ValueError(f'{config} has no model like TransVG or QRNet; give another --config.')
    model_cfg.language_model.pretrained = None
    return model_cfg


def check_against_model(
    converted: State,
    model_cfg: dict,
    parts: str = '.*',
    remedy: str = 'Pass --config with a config of the model that was trained; if that is what you '
    'did, the file is incomplete.',
) -> None:
    """Raise ValueError unless the tensors are exactly those of the model.

    Buffers that are not learned may be absent from ``converted``.

    Args:
        converted (dict): Tensors by mmvg's names.
        model_cfg (dict): The model, or without ``type`` its parts by name.
        parts (str): Regular expression of the names that are compared.
        remedy (str): End of the message.
    """
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        if 'type' in model_cfg:
            model = MODELS.build(model_cfg)
        else:
            model = nn.ModuleDict({name: MODELS.build(cfg) for name, cfg in model_cfg.items()})
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if re.fullmatch(parts, name)
    }
    optional = {name for name in expected if re.fullmatch(INDEX_BUFFERS, name)}
    missing = sorted(expected.keys() - converted.keys() - optional)
    unexpected = sorted(converted.keys() - expected.keys())
    shapes = [
        f'{name} is {tuple(converted[name].shape)}, the model has {expected[name]}'
        for name in sorted(expected.keys() & converted.keys())
        if tuple(converted[name].shape) != expected[name]
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            f'the checkpoint does not fit the model: {len(missing)} tensors are missing '
            f'({some(missing)}), {len(unexpected)} have no place ({some(unexpected)}), '
            f'{len(shapes)} have another shape ({some(shapes)}). {remedy}'
        )


def query_length(converted: State, num_visual_tokens: int) -> int:
    """The text length L of a grounder's checkpoint, from its 1 + L + N position rows."""
    if 'bbox_head.vl_pos_embed' not in converted:
        raise ValueError('the position rows (vl_pos_embed) are missing: no complete checkpoint.')
    rows = len(converted['bbox_head.vl_pos_embed'])
    length = rows - 1 - num_visual_tokens
    if length < 3:
        raise ValueError(
            f'vl_pos_embed has {rows} rows, too few for 1 REG, {num_visual_tokens} visual and at '
            'least 3 text tokens. A model trained at another image size needs --config with its '
            'bbox_head.num_visual_tokens.'
        )
    return length


def fit_query_length(converted: State, model_cfg: dict, wanted: int | None) -> int:
    """Set the model's text length to that of the checkpoint; refuse one that is not ``wanted``."""
    length = query_length(converted, model_cfg.bbox_head.num_visual_tokens)
    if wanted not in (None, length):
        raise ValueError(
            f'it was trained with queries of {length} tokens, not {wanted}. Its text '
            'positions cannot be stretched or cut without changing the model: use a config with '
            f'max_query_len={length}, or a checkpoint that was trained with {wanted} (the official '
            'ones have 40 for RefCOCOg and 20 for all other data sets).'
        )
    model_cfg.bbox_head.max_query_len = length
    return length


def load_official(
    path: str,
    key: str = 'model',
    advice: str = "If it has a 'state_dict' entry, it may already be a checkpoint of mmvg.",
) -> tuple[State, dict]:
    """Read an official file without running code from it.

    Args:
        path (str): A state dict, alone or as one entry of a dict.
        key (str): Name of that entry.
        advice (str): What a file without it may be.

    Returns:
        tuple: The state dict and ``epoch`` and ``val_accu`` where the file has them.

    Raises:
        FileNotFoundError, ValueError: With a message that names the file and the remedy.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} does not exist; give the path of an official checkpoint.')
    # Official training scripts store their command line next to the weights.
    remedy = 'ask its authors for a plain state dict'
    if not hasattr(torch.serialization, 'safe_globals'):
        remedy += ', or use torch 2.5 or later, which can be told that a command line is harmless'
    content = read_file(path, remedy, allow=[argparse.Namespace])
    is_wrapped = isinstance(content, dict) and isinstance(content.get(key), dict)
    state_dict = content[key] if is_wrapped else content
    if (
        not isinstance(state_dict, dict)
        or not state_dict
        or not all(isinstance(value, torch.Tensor) for value in state_dict.values())
    ):
        keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{path} has neither a '{key}' entry with tensors nor is it a state dict; it holds "
            f'{keys}. {advice}'
        )
    return state_dict, facts(content if is_wrapped else {})


def facts(content: dict) -> dict[str, float]:
    """What official checkpoints and mmvg's ``meta`` both record, where it is a number."""
    kept = {name: content.get(name) for name in ('epoch', 'val_accu')}
    return {name: value for name, value in kept.items() if isinstance(value, (int, float))}


def save(content: dict, destination: str) -> None:
    """Write a file, and the folder that it lies in."""
    Path(destination).absolute().parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, destination)


def save_converted(converted: State, source: str, destination: str, **meta) -> None:
    """Write ``{'state_dict', 'meta'}``, as mmengine reads it."""
    meta = dict(converted_from=Path(source).name, mmvg_version=mmvg.__version__, **meta)
    save({'state_dict': converted, 'meta': meta}, destination)


def report(source: State, ignored: list[str], note: str, why: str, depth: int = 1) -> str:
    """What became of every tensor, by part of the model, and ``why`` some are ignored."""
    converted = source.keys() - set(ignored)
    counts = Counter(
        '.'.join(name.removeprefix('module.').split('.')[:depth])
        for name in source
        if name in converted
    )
    lines = [f'{len(converted)} of {len(source)} tensors converted{note}:']
    lines += [f'  {part:<25}{count:>4}' for part, count in counts.items()]
    lines += [f'{len(ignored)} ignored ({why}):'] if ignored else []
    return '\n'.join(lines + [f'  {name}' for name in ignored])


def run(
    convert: Callable[..., str],
    description: str,
    source: str,
    config: str | None = None,
    max_query_len: bool = False,
) -> None:
    """Convert what the command line names, and print the report.

    Args:
        convert (Callable): Takes the arguments by name and returns the report.
        description (str): Docstring of the converter.
        source (str): Help text of the file to convert.
        config (str, optional): Help text of ``--config``, if the converter has it.
        max_query_len (bool): Whether it has ``--max-query-len``.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help=source)
    parser.add_argument('destination', help='file to write')
    if config:
        parser.add_argument('--config', help=config)
    if max_query_len:
        parser.add_argument('--max-query-len', type=int, help='refuse another text length')
    args = parser.parse_args()
    with concise_errors():
        print(convert(**vars(args)))
