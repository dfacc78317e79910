"""What the converters share: official names beside ours, reading, checking and reporting.

A table is a list of (official name, our name). ``{i}`` stands for one part of a dotted name,
``{rest}`` for all that follows; the first row that fits decides, in either direction.
"""

import argparse
import pickle
import re
from collections import Counter
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope

import mmvg

Table = list[tuple[str, str]]
State = dict[str, torch.Tensor]

DETR: Table = [
    ('backbone.0.body.{rest}', 'backbone.{rest}'),
    ('input_proj.{rest}', 'neck.convs.0.conv.{rest}'),
    ('transformer.encoder.{rest}', 'visual_encoder.{rest}'),
]
_BLOCK = ('backbone.layers.{i}.blocks.{j}', 'backbone.stages.{i}.blocks.{j}')
# The original Swin and MMDetection's.
SWIN: Table = [
    ('backbone.patch_embed.proj.{rest}', 'backbone.patch_embed.projection.{rest}'),
    (f'{_BLOCK[0]}.attn.{{rest}}', f'{_BLOCK[1]}.attn.w_msa.{{rest}}'),
    (f'{_BLOCK[0]}.mlp.fc1.{{rest}}', f'{_BLOCK[1]}.ffn.layers.0.0.{{rest}}'),
    (f'{_BLOCK[0]}.mlp.fc2.{{rest}}', f'{_BLOCK[1]}.ffn.layers.1.{{rest}}'),
    ('backbone.layers.{rest}', 'backbone.stages.{rest}'),
    ('backbone.{rest}', 'backbone.{rest}'),
    ('neck.lateral_convs.{rest}', 'neck.lateral_convs.{rest}'),
]
GATES: Table = [
    (f'{place}.{official}.decoder.{end}', f'{our_place}.{ours}.{our_end}')
    for place, our_place in (
        ('backbone.layers.{i}.qdatt', 'backbone.gates.{i}'),
        ('neck.fpn_down.{i}.qdatt', 'neck.gates.{i}'),
    )
    for official, ours in (
        ('ChannelGate.mlp.0', 'channel_mlp.0'),
        ('ChannelGate.mlp.2', 'channel_mlp.1'),
        ('SpatialGate.spatial', 'spatial'),
    )
    for end, our_end in (('V', 'V'), ('decoder.{rest}', 'decoder.{rest}'))
]
# Language model, fusion and head, which TransVG and QRNet have in common.
_GROUNDING: Table = [
    ('textmodel.bert.{rest}', 'language_model.bert.{rest}'),
    ('vl_transformer.encoder.{rest}', 'bbox_head.fusion.{rest}'),
    ('visu_proj.{rest}', 'bbox_head.visual_proj.{rest}'),
    ('text_proj.{rest}', 'bbox_head.text_proj.{rest}'),
    ('bbox_embed.{rest}', 'bbox_head.box_mlp.{rest}'),
    ('vl_pos_embed.weight', 'bbox_head.vl_pos_embed'),
    ('reg_token.weight', 'bbox_head.reg_token'),
]
TRANSVG: Table = [(f'visumodel.{official}', ours) for official, ours in DETR] + _GROUNDING
QRNET: Table = [
    *((f'visumodel.{official}', ours) for official, ours in GATES + SWIN),
    ('scale_embed.weight', 'visual_encoder.level_embed'),
    *_GROUNDING,
]
# Counters and index buffers that some versions of torch and transformers write; models compute them.
INDEX_BUFFERS = r'.*\.(num_batches_tracked|position_ids|relative_position_index)'


def rename(
    source: State, table: Table, ignored: str, inverse: bool = False
) -> tuple[State, list[str]]:
    """Rename tensors by a table.

    Args:
        source (dict): Tensors by name; the ``module.`` of distributed training is dropped.
        table (list): See the head of this file.
        ignored (str): Regular expression of names that are left out.
        inverse (bool): From our names to the official ones.

    Returns:
        tuple: The renamed tensors and the names that were left out.

    Raises:
        ValueError: If a name is neither in the table nor to be ignored.
    """
    rows = [row[::-1] if inverse else row for row in table]
    rows = [(re.compile(_pattern(old)), new) for old, new in rows]
    renamed, left_out, unknown = {}, [], []
    for name, tensor in source.items():
        plain = name.removeprefix('module.')
        fits = ((pattern.fullmatch(plain), new) for pattern, new in rows)
        match, new = next(((m, new) for m, new in fits if m), (None, None))
        if re.fullmatch(ignored, plain):
            left_out.append(name)
        elif match:
            renamed[new.format(**match.groupdict())] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f'{len(unknown)} tensors have no place in this model: {some(unknown)}.')
    return renamed, left_out


def _pattern(template: str) -> str:
    parts = re.escape(template).replace(r'\{', '{').replace(r'\}', '}')
    return re.sub(r'{(\w+)}', lambda m: f'(?P<{m[1]}>{".+" if m[1] == "rest" else "[^.]+"})', parts)


def reorder_patch_merging(state: State, inverse: bool = False) -> State:
    """Swin's patch merging concatenates four neighbours in another order than MMDetection's.

    The original has (row, column) = (0, 0), (1, 0), (0, 1), (1, 1), each with all its channels; the
    unfolding of MMDetection has the channels outside and the neighbours in rows inside.

    Args:
        state (dict): Tensors by our names, in the original order.
        inverse (bool): From MMDetection's order to the original one.
    """

    def swap(tensor: torch.Tensor) -> torch.Tensor:
        channels = tensor.shape[-1] // 4
        sizes = (channels, 2, 2) if inverse else (2, 2, channels)  # rows in the middle either way
        return tensor.unflatten(-1, sizes).transpose(-1, -3).flatten(-3)

    merging = re.compile(
        r'backbone\.stages\.\d+\.downsample\.(reduction\.weight|norm\.(weight|bias))'
    )
    return {name: swap(t) if merging.fullmatch(name) else t for name, t in state.items()}


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
        model_cfg (dict): The model.
        parts (str): Regular expression of the names that are compared.
        remedy (str): End of the message.
    """
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(model_cfg)
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
        raise ValueError('vl_pos_embed.weight is missing: this is no complete checkpoint.')
    rows = len(converted['bbox_head.vl_pos_embed'])
    length = rows - 1 - num_visual_tokens
    if length < 3:
        raise ValueError(
            f'vl_pos_embed.weight has {rows} rows, too few for 1 REG, {num_visual_tokens} visual and '
            'at least 3 text tokens. A model trained at another image size needs --config with its '
            'bbox_head.num_visual_tokens.'
        )
    return length


def fit_query_length(source: str, converted: State, model_cfg: dict, wanted: int | None) -> int:
    """Set the model's text length to that of the checkpoint; refuse one that is not ``wanted``."""
    length = query_length(converted, model_cfg.bbox_head.num_visual_tokens)
    if wanted not in (None, length):
        raise ValueError(
            f'{source} was trained with queries of {length} tokens, not {wanted}. Its text '
            'positions cannot be stretched or cut without changing the model: use a config with '
            f'max_query_len={length}, or a checkpoint that was trained with {wanted} (the official '
            'ones have 40 for RefCOCOg and 20 for all other data sets).'
        )
    model_cfg.bbox_head.max_query_len = length
    return length


def load_official(path: str, key: str = 'model') -> tuple[State, dict]:
    """Read an official file without running code from it.

    Args:
        path (str): A state dict, alone or as one entry of a dict.
        key (str): Name of that entry.

    Returns:
        tuple: The state dict and ``epoch`` and ``val_accu`` where the file has them.

    Raises:
        FileNotFoundError, ValueError: With a message that names the file and the remedy.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} does not exist; give the path of an official checkpoint.')
    try:
        # Official training scripts store their command line next to the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{path} holds more than tensors and an argparse.Namespace, or is no checkpoint, so it '
            f'was not loaded: {str(error).splitlines()[0]} Get the file from its authors again.'
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f'{path} is no readable checkpoint (incomplete download?): {error}'
        ) from error
    is_wrapped = isinstance(content, dict) and isinstance(content.get(key), dict)
    state_dict = content[key] if is_wrapped else content
    if (
        not isinstance(state_dict, dict)
        or not state_dict
        or not all(isinstance(value, torch.Tensor) for value in state_dict.values())
    ):
        keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        hint = "If it has a 'state_dict' entry, it may already be a checkpoint of mmvg."
        raise ValueError(
            f"{path} has neither a '{key}' entry with tensors nor is it a state dict; it holds "
            f'{keys}. {hint if key == "model" else ""}'
        )
    facts = {
        name: content[name]
        for name in ('epoch', 'val_accu')
        if is_wrapped and isinstance(content.get(name), (int, float))
    }
    return state_dict, facts


def save(converted: State, source: str, destination: str, **meta) -> None:
    """Write ``{'state_dict', 'meta'}``, as mmengine reads it."""
    Path(destination).absolute().parent.mkdir(parents=True, exist_ok=True)
    meta = dict(converted_from=Path(source).name, mmvg_version=mmvg.__version__, **meta)
    torch.save({'state_dict': converted, 'meta': meta}, destination)


def report(source: State, ignored: list[str], note: str, why: str, depth: int = 1) -> str:
    """What became of every tensor, by part of the model, and ``why`` some are ignored."""
    counts = Counter(
        '.'.join(name.removeprefix('module.').split('.')[:depth])
        for name in source
        if name not in set(ignored)
    )
    lines = [f'{sum(counts.values())} of {len(source)} tensors converted{note}:']
    lines += [f'  {part:<25}{count:>4}' for part, count in counts.items()]
    lines += [f'{len(ignored)} ignored ({why}):'] if ignored else []
    return '\n'.join(lines + [f'  {name}' for name in ignored])


def some(names: list[str], limit: int = 5) -> str:
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return (', '.join(names[:limit]) or 'none') + more
