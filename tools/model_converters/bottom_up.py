"""Convert a bottom-up-attention detector into the frozen backbone of ReIR.

    python tools/model_converters/bottom_up.py bottomup_pretrained_10_100.pth \\
        checkpoints/bottom-up_r101.pth

reads the PyTorch port that names its parts RCNN_base and RCNN_top (violetteshev/bottom-up-features).
ResNet-101 is converted, its last stage into the shared head; region proposal network and classifiers
are listed as ignored; a file with missing or wrongly shaped tensors is refused.
"""

# The folder of a script comes first on Python's path.
from names import BOTTOM_UP, INDEX_BUFFERS, State, rename
from official import check_against_model, load_official, naming, report, run, save_converted

from mmvg.apis import load_config

RECIPE = 'reir_r101_flickr30k'
HEADS = r'(?!(module\.)?RCNN_(base|top)\.).*'


def convert_state_dict(source: State) -> tuple[State, list[str]]:
    """Rename the tensors; see :func:`names.rename`."""
    advice = (
        'This converter reads the PyTorch port of the ResNet-101 detector, not the Caffe files.'
    )
    return rename(source, BOTTOM_UP, f'{INDEX_BUFFERS}|{HEADS}', 'bottom-up attention', advice)


def convert(source: str, destination: str) -> str:
    """Convert the file ``source`` into ``destination`` and return a report.

    Args:
        source (str): The detector, or a plain state dict with its names.
        destination (str): Where to write ``{'state_dict', 'meta'}``, for ``load_from``.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be converted completely.
    """
    official, facts = load_official(source)
    with naming(source):
        converted, ignored = convert_state_dict(official)
        model = load_config(RECIPE).model
        parts = {name: model[name] for name in ('backbone', 'shared_head')}
        remedy = 'The file is incomplete or has no ResNet-101: get bottomup_pretrained_10_100.pth.'
        check_against_model(converted, parts, remedy=remedy)
    save_converted(converted, source, destination, **facts)
    return report(official, ignored, '', 'proposal network, classifiers, counters', depth=2)


def main() -> None:
    run(convert, __doc__, 'e.g. bottomup_pretrained_10_100.pth')


if __name__ == '__main__':
    main()
