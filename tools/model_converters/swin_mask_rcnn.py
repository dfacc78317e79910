"""Convert a Mask R-CNN with Swin into initial weights of QRNet's visual branch.

    python tools/model_converters/swin_mask_rcnn.py mask_rcnn_swin_small.pth swin-s_qrnet.pth
    python tools/train.py qrnet_swin_refcoco --cfg-options load_from=swin-s_qrnet.pth

Reads the names of Swin's original detection code, whose patch merging is reordered, and those of
MMDetection's model zoo, such as mask_rcnn_swin-s-p4-w7. Backbone and lateral convolutions of the
neck are converted; the rest of the detector is listed as ignored; a file with unknown, missing or
wrongly shaped tensors is refused (spec sections 2.8 and 4.3).
"""

# The folder of a script comes first on Python's path.
from names import INDEX_BUFFERS, SWIN, State, Table, rename, reorder_patch_merging
from official import (
    QRNET_RECIPE,
    check_against_model,
    load_official,
    model_config,
    naming,
    report,
    run,
    save_converted,
)

MMDET: Table = [(ours, ours) for _, ours in SWIN]
DETECTION = r'(neck\.fpn_convs|rpn_head|roi_head)\..*'
PARTS = r'backbone\.(?!gates\.).*|neck\.lateral_convs\..*'
REMEDY = (
    'The file is incomplete, or its Swin has another size: pass --config with a QRNet of that size.'
)


def is_original(source: State) -> bool:
    """Whether the names are those of Swin's original detection code."""
    return any('backbone.layers.' in name for name in source)


def convert_state_dict(source: State) -> tuple[State, list[str]]:
    """Rename the tensors of a Mask R-CNN; see :func:`names.rename`."""
    advice = (
        'This converter reads Mask R-CNN detectors with Swin, of its original detection code or of '
        'MMDetection. QRNet itself: tools/model_converters/qrnet.py.'
    )
    table = SWIN if is_original(source) else MMDET
    return rename(source, table, f'{INDEX_BUFFERS}|{DETECTION}', 'Mask R-CNN with Swin', advice)


def convert(source: str, destination: str, config: str | None = None) -> str:
    """Convert the file ``source`` into ``destination`` and return a report.

    Args:
        source (str): Checkpoint with a ``state_dict``, or a plain state dict.
        destination (str): Where to write ``{'state_dict', 'meta'}``, for ``load_from``.
        config (str, optional): Config of the QRNet that the detector has to fit. By default the
            official recipe, with Swin-S.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be converted completely.
    """
    advice = (
        'A Swin trained to classify is no detector: its file belongs in '
        'model.backbone.init_cfg.checkpoint, with model.backbone.convert_weights=True.'
    )
    detector, _ = load_official(source, 'state_dict', advice)
    model_cfg = model_config(config or QRNET_RECIPE)
    with naming(source):
        converted, ignored = convert_state_dict(detector)
        check_against_model(converted, model_cfg, PARTS, REMEDY)
    if is_original(detector):
        converted = reorder_patch_merging(converted)
    save_converted(converted, source, destination)
    layout = ', original layout' if is_original(detector) else ", MMDetection's layout"
    return report(detector, ignored, layout, 'heads, output convolutions, index buffers', depth=2)


def main() -> None:
    run(convert, __doc__, 'checkpoint of the detector', 'config of the QRNet, if not with Swin-S')


if __name__ == '__main__':
    main()
