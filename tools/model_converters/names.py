"""Official names of tensors beside ours, and what else differs between the two layouts.

A table is a list of (official name, our name). ``{i}`` stands for one part of a dotted name,
``{rest}`` for all that follows; the first row that fits decides, in either direction.
"""

import math
import re

import torch

from mmvg.checkpoints.messages import some

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
    ('backbone.patch_embed.norm.{rest}', 'backbone.patch_embed.norm.{rest}'),
    ('backbone.{norm}.{end}', 'backbone.{norm}.{end}'),
    ('neck.lateral_convs.{rest}', 'neck.lateral_convs.{rest}'),
]
GATES: Table = [
    (f'{place}.{official}.decoder.{end}', f'{our_place}.{ours}.{end}')
    for place, our_place in (
        ('backbone.layers.{i}.qdatt', 'backbone.gates.{i}'),
        ('neck.fpn_down.{i}.qdatt', 'neck.gates.{i}'),
    )
    for official, ours in (
        ('ChannelGate.mlp.0', 'channel_mlp.0'),
        ('ChannelGate.mlp.2', 'channel_mlp.1'),
        ('SpatialGate.spatial', 'spatial'),
    )
    for end in ('V', 'decoder.{rest}')
]
# Language model, fusion and head, which TransVG and QRNet have in common.
_GROUNDING: Table = [
    ('textmodel.bert.{rest}', 'language_model.bert.{rest}'),
    ('vl_pos_embed.weight', 'bbox_head.vl_pos_embed'),
    ('scale_embed.weight', 'visual_encoder.level_embed'),
    ('reg_token.weight', 'bbox_head.reg_token'),
    ('visu_proj.{rest}', 'bbox_head.visual_proj.{rest}'),
    ('text_proj.{rest}', 'bbox_head.text_proj.{rest}'),
    ('vl_transformer.encoder.{rest}', 'bbox_head.fusion.{rest}'),
    ('bbox_embed.{rest}', 'bbox_head.box_mlp.{rest}'),
]
_SCALES = 'scale_embed.weight'  # of QRNet only
TRANSVG: Table = [
    *((f'visumodel.{official}', ours) for official, ours in DETR),
    *(row for row in _GROUNDING if row[0] != _SCALES),
]
QRNET: Table = [*((f'visumodel.{official}', ours) for official, ours in GATES + SWIN), *_GROUNDING]
# Detectors of the PyTorch port of Faster R-CNN whose parts are numbered.
BOTTOM_UP: Table = [
    ('RCNN_base.0.{rest}', 'backbone.conv1.{rest}'),
    ('RCNN_base.1.{rest}', 'backbone.bn1.{rest}'),
    *((f'RCNN_base.{i + 3}.{{rest}}', f'backbone.layer{i}.{{rest}}') for i in (1, 2, 3)),
    ('RCNN_top.0.{rest}', 'shared_head.layer4.{rest}'),
]
# Counters and index buffers that some versions of torch and transformers write; models compute them.
INDEX_BUFFERS = r'.*\.(num_batches_tracked|position_ids|relative_position_index)'


def rename(
    source: State,
    table: Table,
    ignored: str,
    model: str,
    advice: str = '',
    inverse: bool = False,
) -> tuple[State, list[str]]:
    """Rename tensors by a table.

    Args:
        source (dict): Tensors by name; the ``module.`` of distributed training is dropped.
        table (list): See the head of this file.
        ignored (str): Regular expression of names that are left out.
        model (str): What the tensors should belong to, for the message.
        advice (str): End of the message.
        inverse (bool): From our names to the official ones.

    Returns:
        tuple: The renamed tensors and the names that were left out.

    Raises:
        ValueError: If a name is neither in the table nor to be ignored, or comes twice.
    """
    rows = [row[::-1] if inverse else row for row in table]
    rows = [(re.compile(_pattern(old)), new) for old, new in rows]
    renamed, left_out, unknown = {}, [], []
    for name, tensor in source.items():
        plain = name.removeprefix('module.')
        if re.fullmatch(ignored, plain):
            left_out.append(name)
            continue
        fits = ((pattern.fullmatch(plain), new) for pattern, new in rows)
        new_name = next((new.format(**match.groupdict()) for match, new in fits if match), None)
        if new_name is None or new_name in renamed:
            unknown.append(name)
        else:
            renamed[new_name] = tensor
    if unknown:
        raise ValueError(
            f'{len(unknown)} tensors belong to no part of {model}: {some(unknown)}. {advice}'
        )
    return renamed, left_out


def _pattern(template: str) -> str:
    parts = re.escape(template).replace(r'\{', '{').replace(r'\}', '}')
    return re.sub(r'{(\w+)}', lambda m: f'(?P<{m[1]}>{".+" if m[1] == "rest" else "[^.]+"})', parts)


def reorder_patch_merging(state: State, inverse: bool = False) -> State:
    """Swin's patch merging concatenates four neighbours in another order than MMDetection's.

    The original has (row, column) = (0, 0), (1, 0), (0, 1), (1, 1), each with all its channels; the
    unfolding of MMDetection has the channels outside and the neighbours in rows inside.

    Args:
        state (dict): Tensors by our names, in the original order, of the shapes of a Swin.
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


def add_position_index(state: State) -> State:
    """Put the buffer ``relative_position_index`` beside every bias table of Swin, as models do.

    Entry (i, j) is the row of the (2w - 1) x (2w - 1) table for the offset of position i from
    position j in a window of w x w. The original and MMDetection agree on it.
    """
    complete = {}
    for name, tensor in state.items():
        complete[name] = tensor
        if name.endswith('.relative_position_bias_table'):
            size = math.isqrt(len(tensor))  # 2w - 1
            axis = torch.arange((size + 1) // 2)
            offset = axis[:, None] - axis + len(axis) - 1
            index = offset[:, None, :, None] * size + offset[None, :, None, :]
            complete[name.replace('_bias_table', '_index')] = index.flatten(2).flatten(0, 1)
    return complete
