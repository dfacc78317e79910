"""Convert an official DETR checkpoint into initial weights of TransVG's visual branch.

    python tools/model_converters/detr.py detr-r50-e632da11.pth detr_r50_transvg.pth
    python tools/train.py transvg_r50_refcoco --cfg-options load_from=detr_r50_transvg.pth

R50 and R101 are told apart by their layers. Backbone, input projection and encoder are converted;
decoder and detection heads, which TransVG does not have, are listed as ignored; a file with
unknown, missing or wrongly shaped tensors is refused.
"""

import argparse
from pathlib import Path

import torch

# The folder of a script comes first on Python's path.
from transvg import (
    FAMILIES,
    IGNORED_SUFFIXES,
    check_against_model,
    load_official,
    model_config,
    report,
    some,
)

import mmvg
from mmvg.apis import concise_errors

# The visual branch of TransVG is DETR's: same names, less the prefix.
VISUAL = {
    official.removeprefix('visumodel.'): ours
    for official, ours in FAMILIES.items()
    if official.startswith('visumodel.')
}
PARTS = ('backbone.', 'neck.', 'visual_encoder.')
DETECTION = ('transformer.decoder.', 'class_embed.', 'bbox_embed.', 'query_embed.weight')


def convert_state_dict(source: dict[str, torch.Tensor]) -> tuple[dict, list[str]]:
    """Rename the tensors of an official DETR.

    Args:
        source (dict): The official state dict, with or without the ``module.`` prefix that
            distributed training adds.

    Returns:
        tuple: The tensors of TransVG's visual branch and the official names that were ignored.

    Raises:
        ValueError: If a name belongs to no known part of DETR.
    """
    converted, ignored, unknown = {}, [], []
    for name, tensor in source.items():
        official = name.removeprefix('module.')
        part = next((prefix for prefix in VISUAL if official.startswith(prefix)), None)
        if official.startswith(DETECTION) or official.endswith(IGNORED_SUFFIXES):
            ignored.append(name)
        elif part is not None:
            converted[VISUAL[part] + official[len(part) :]] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f'{len(unknown)} tensors belong to no part of DETR: {some(unknown)}. This converter '
            'reads official DETR detectors (R50, R101), not panoptic or later models; '
            'tools/model_converters/transvg.py reads those of TransVG.'
        )
    return converted, ignored


def convert(source: str, destination: str) -> str:
    """Convert the file ``source`` into ``destination`` and return a report.

    Args:
        source (str): Official checkpoint, or a plain state dict with the official names.
        destination (str): Where to write ``{'state_dict', 'meta'}``, for ``load_from``.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be converted completely.
    """
    official, facts = load_official(source)
    try:
        converted, ignored = convert_state_dict(official)
        remedy = 'The file is incomplete or no DETR with ResNet-50 or -101: get an official one.'
        check_against_model(converted, model_config(None, converted), PARTS, remedy)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error
    Path(destination).absolute().parent.mkdir(parents=True, exist_ok=True)
    meta = dict(converted_from=Path(source).name, mmvg_version=mmvg.__version__, **facts)
    torch.save({'state_dict': converted, 'meta': meta}, destination)
    return report(official, ignored, '', 'decoder and detection heads, counters')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help='official checkpoint, e.g. detr-r50-e632da11.pth')
    parser.add_argument('destination', help='file to write')
    args = parser.parse_args()
    with concise_errors():
        print(convert(args.source, args.destination))


if __name__ == '__main__':
    main()
