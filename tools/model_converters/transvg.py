"""Convert an official TransVG checkpoint into one of mmvg.

    python tools/model_converters/transvg.py TransVG_unc.pth transvg_r50_refcoco.pth

Every tensor of the source is either converted or listed as ignored; a file with unknown, missing or
wrongly shaped tensors is refused. The order of the position rows, [REG, text, visual], is the same
on both sides (spec section 1.9).
"""

import argparse
import pickle
from collections import Counter
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope

import mmvg
from mmvg.apis import concise_errors, load_config

# Official prefix -> mmvg prefix.
FAMILIES = {
    'visumodel.backbone.0.body.': 'backbone.',
    'visumodel.input_proj.': 'neck.convs.0.conv.',
    'visumodel.transformer.encoder.': 'visual_encoder.',
    'textmodel.bert.': 'language_model.bert.',
    'vl_transformer.encoder.': 'bbox_head.fusion.',
    'visu_proj.': 'bbox_head.visual_proj.',
    'text_proj.': 'bbox_head.text_proj.',
    'bbox_embed.': 'bbox_head.box_mlp.',
}
TABLES = {
    'vl_pos_embed.weight': 'bbox_head.vl_pos_embed',
    'reg_token.weight': 'bbox_head.reg_token',
}
# Counters and index buffers that some versions of torch and transformers add and no model needs.
IGNORED_SUFFIXES = ('.num_batches_tracked', '.position_ids')
_COUNTERS = 'index buffers and counters'


def convert_state_dict(source: dict[str, torch.Tensor]) -> tuple[dict, list[str]]:
    """Rename the tensors of an official TransVG.

    Args:
        source (dict): The official state dict, with or without the ``module.`` prefix that
            distributed training adds.

    Returns:
        tuple: The state dict of :class:`TransVG` and the official names that were ignored.

    Raises:
        ValueError: If a name belongs to no known part of TransVG.
    """
    converted, ignored, unknown = {}, [], []
    for name, tensor in source.items():
        official = name.removeprefix('module.')
        family = next((prefix for prefix in FAMILIES if official.startswith(prefix)), None)
        if official.endswith(IGNORED_SUFFIXES):
            ignored.append(name)
        elif official in TABLES:
            converted[TABLES[official]] = tensor
        elif family is not None:
            converted[FAMILIES[family] + official[len(family) :]] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f'{len(unknown)} tensors belong to no part of TransVG: {some(unknown)}. This '
            'converter reads official TransVG checkpoints (ResNet and BERT), not those of QRNet or '
            'other projects. Initial weights from DETR: tools/model_converters/detr.py.'
        )
    return converted, ignored


def check_against_model(
    converted: dict,
    model_cfg: dict,
    parts: tuple[str, ...] = ('',),
    remedy: str = 'Pass --config with a config of the model that was trained; if that is what you '
    'did, the file is incomplete.',
) -> None:
    """Raise ValueError unless the tensors are exactly those of the model.

    Buffers that are not learned may be absent from ``converted``.

    Args:
        converted (dict): Tensors by mmvg's names.
        model_cfg (dict): The model.
        parts (tuple[str, ...]): Prefixes of the part of the model that is compared.
        remedy (str): End of the message.
    """
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(model_cfg)
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if name.startswith(parts)
    }
    optional = {name for name in expected if name.endswith(IGNORED_SUFFIXES)}
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


def query_length(converted: dict, num_visual_tokens: int) -> int:
    """The text length L of a checkpoint, from its 1 + L + N position rows."""
    if TABLES['vl_pos_embed.weight'] not in converted:
        raise ValueError('vl_pos_embed.weight is missing: this is no complete TransVG checkpoint.')
    length = len(converted[TABLES['vl_pos_embed.weight']]) - 1 - num_visual_tokens
    if length < 3:
        raise ValueError(
            f'vl_pos_embed.weight has {length + 1 + num_visual_tokens} rows, too few for 1 REG, '
            f'{num_visual_tokens} visual and at least 3 text tokens. A model trained at another '
            'image size needs --config with its bbox_head.num_visual_tokens.'
        )
    return length


def load_official(path: str) -> tuple[dict, dict]:
    """Read an official file without running code from it.

    Returns:
        tuple: The state dict and ``epoch`` and ``val_accu`` where the file has them.

    Raises:
        FileNotFoundError, ValueError: With a message that names the file and the remedy.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} does not exist; give the path of an official checkpoint.')
    try:
        # The official training script stores its command line next to the weights.
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
    is_wrapped = isinstance(content, dict) and isinstance(content.get('model'), dict)
    state_dict = content['model'] if is_wrapped else content
    if (
        not isinstance(state_dict, dict)
        or not state_dict
        or not all(isinstance(value, torch.Tensor) for value in state_dict.values())
    ):
        keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{path} has neither a 'model' entry with tensors nor is it a state dict; it holds "
            f"{keys}. If it has a 'state_dict' entry, it may already be a checkpoint of mmvg."
        )
    facts = {
        key: content[key]
        for key in ('epoch', 'val_accu')
        if is_wrapped and isinstance(content.get(key), (int, float))
    }
    return state_dict, facts


def model_config(path: str | None, converted: dict) -> dict:
    """The model section of a config; without one, of the official recipe that the file fits."""
    if path is None:
        depth = 101 if any(name.startswith('backbone.layer3.6.') for name in converted) else 50
        path = f'transvg_r{depth}_refcoco'
    model_cfg = load_config(path).model
    model_cfg.language_model.pretrained = None  # all weights come from the checkpoint
    return model_cfg


def convert(
    source: str, destination: str, config: str | None = None, max_query_len: int | None = None
) -> str:
    """Convert the file ``source`` into ``destination`` and return a report.

    Args:
        source (str): Official checkpoint, or a plain state dict with the official names.
        destination (str): Where to write ``{'state_dict', 'meta'}``.
        config (str, optional): Config whose model the checkpoint has to fit. By default the
            architecture of the official recipes, with the checkpoint's own text length.
        max_query_len (int, optional): Refuse a checkpoint of another text length.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be converted completely.
    """
    official, facts = load_official(source)
    converted, ignored = convert_state_dict(official)
    model_cfg = model_config(config, converted)
    length = query_length(converted, model_cfg.bbox_head.num_visual_tokens)
    wanted = max_query_len or (model_cfg.bbox_head.max_query_len if config else length)
    if wanted != length:
        raise ValueError(
            f'{source} was trained with queries of {length} tokens, not {wanted}. Its text '
            'positions cannot be stretched or cut without changing the model: use a config with '
            f'max_query_len={length}, or a checkpoint that was trained with {wanted} (the official '
            'ones have 40 for RefCOCOg and 20 for all other data sets).'
        )
    model_cfg.bbox_head.max_query_len = length
    check_against_model(converted, model_cfg)
    Path(destination).absolute().parent.mkdir(parents=True, exist_ok=True)
    meta = dict(
        converted_from=Path(source).name,
        mmvg_version=mmvg.__version__,
        max_query_len=length,
        **facts,
    )
    torch.save({'state_dict': converted, 'meta': meta}, destination)
    return report(official, ignored, f', text length {length}')


def report(official: dict, ignored: list[str], note: str, why: str = _COUNTERS) -> str:
    """What became of every tensor, by part of the model, and ``why`` some are ignored."""
    counts = Counter(
        name.removeprefix('module.').split('.')[0] for name in official if name not in ignored
    )
    lines = [f'{sum(counts.values())} of {len(official)} tensors converted{note}:']
    lines += [f'  {part:<15}{count:>4}' for part, count in counts.items()]
    lines += [f'{len(ignored)} ignored ({why}):'] if ignored else []
    return '\n'.join(lines + [f'  {name}' for name in ignored])


def some(names: list[str], limit: int = 5) -> str:
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return (', '.join(names[:limit]) or 'none') + more


def main() -> None:
    parser = argparse.ArgumentParser(description='Convert an official TransVG checkpoint to mmvg.')
    parser.add_argument('source', help='official checkpoint, e.g. TransVG_unc.pth')
    parser.add_argument('destination', help='file to write')
    parser.add_argument('--config', help='config of the model, if not an official recipe')
    parser.add_argument('--max-query-len', type=int, help='refuse another text length')
    args = parser.parse_args()
    with concise_errors():
        print(convert(args.source, args.destination, args.config, args.max_query_len))


if __name__ == '__main__':
    main()
