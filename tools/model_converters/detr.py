"""Convert an official DETR checkpoint into initial weights of TransVG's visual branch.

    python tools/model_converters/detr.py detr-r50-e632da11.pth detr_r50_transvg.pth
    python tools/train.py transvg_r50_refcoco --cfg-options load_from=detr_r50_transvg.pth

R50 and R101 are told apart by their layers. Backbone, input projection and encoder are converted;
decoder and detection heads, which TransVG does not have, are listed as ignored; a file with
unknown, missing or wrongly shaped tensors is refused.
"""

# The folder of a script comes first on Python's path.
from names import DETR, INDEX_BUFFERS, State, rename
from official import (
    check_against_model,
    load_official,
    model_config,
    naming,
    report,
    run,
    save_converted,
    transvg_recipe,
)

PARTS = r'(backbone|neck|visual_encoder)\..*'
DETECTION = r'(transformer\.decoder|class_embed|bbox_embed)\..*|query_embed\.weight'


def convert_state_dict(source: State) -> tuple[State, list[str]]:
    """Rename the tensors of an official DETR; see :func:`names.rename`."""
    advice = (
        'This converter reads official DETR detectors (R50, R101), not panoptic or later models; '
        'tools/model_converters/transvg.py reads those of TransVG.'
    )
    return rename(source, DETR, f'{INDEX_BUFFERS}|{DETECTION}', 'DETR', advice)


def convert(source: str, destination: str) -> str:
    """Convert the file ``source`` into ``destination`` and return a report.

    Args:
        source (str): Official checkpoint, or a plain state dict with the official names.
        destination (str): Where to write ``{'state_dict', 'meta'}``, for ``load_from``.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be converted completely.
    """
    official, facts = load_official(source)
    with naming(source):
        converted, ignored = convert_state_dict(official)
        remedy = 'The file is incomplete or no DETR with ResNet-50 or -101: get an official one.'
        check_against_model(converted, model_config(transvg_recipe(converted)), PARTS, remedy)
    save_converted(converted, source, destination, **facts)
    return report(official, ignored, '', 'decoder and detection heads, counters')


def main() -> None:
    run(convert, __doc__, 'official checkpoint, e.g. detr-r50-e632da11.pth')


if __name__ == '__main__':
    main()
