"""Convert an official QRNet checkpoint into one of mmvg.

    python tools/model_converters/qrnet.py qrnet_unc.pth qrnet_swin_refcoco.pth

Every tensor of the source is either converted or listed as ignored; a file with unknown, missing or
wrongly shaped tensors is refused (spec sections 2.8 and 4.3).
"""

# The folder of a script comes first on Python's path.
from names import (
    INDEX_BUFFERS,
    QRNET,
    State,
    rename,
    reorder_patch_merging,
)
from official import (
    QRNET_RECIPE,
    check_against_model,
    fit_query_length,
    load_official,
    model_config,
    naming,
    report,
    run,
    save_converted,
)

# A region proposal head that came with the detector and is never used.
IGNORED = rf'{INDEX_BUFFERS}|visumodel\.rpn_head\..*'


def convert_state_dict(source: State) -> tuple[State, list[str]]:
    """Rename the tensors of an official QRNet; see :func:`names.rename`."""
    advice = (
        'This converter reads official QRNet checkpoints (Swin and BERT). TransVG: '
        'tools/model_converters/transvg.py. Initial weights of a Swin detector: '
        'tools/model_converters/swin_mask_rcnn.py.'
    )
    return rename(source, QRNET, IGNORED, 'QRNet', advice)


def diagnose(converted: State) -> str:
    """Whether the first channel layers are at 0, where the official training leaves them."""
    names = [name for name in converted if name.endswith('channel_mlp.0.V')]
    moved = [name for name in names if converted[name].any()]
    if not names:
        return 'no channel gates'
    if not moved:
        return (
            f'first channel layer of {len(names)} gates: V is 0, as the official training leaves it'
        )
    return (
        f'NOTE: first channel layer of {len(moved)} of {len(names)} gates: V is not 0. The official '
        'training cannot move it away from 0: these weights come from another one.'
    )


def convert(
    source: str, destination: str, config: str | None = None, max_query_len: int | None = None
) -> str:
    """Convert the file ``source`` into ``destination`` and return a report.

    Args:
        source (str): Official checkpoint, or a plain state dict with the official names.
        destination (str): Where to write ``{'state_dict', 'meta'}``.
        config (str, optional): Config whose model the checkpoint has to fit. By default the
            architecture of the official recipe, with the checkpoint's own text length.
        max_query_len (int, optional): Refuse a checkpoint of another text length.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be converted completely.
    """
    official, facts = load_official(source)
    model_cfg = model_config(config or QRNET_RECIPE)
    if model_cfg.type != 'QRNet':
        raise ValueError(f'--config {config} is a {model_cfg.type}; give one of QRNet')
    with naming(source):
        converted, ignored = convert_state_dict(official)
        wanted = max_query_len or (model_cfg.bbox_head.max_query_len if config else None)
        length = fit_query_length(converted, model_cfg, wanted)
        check_against_model(converted, model_cfg)
    converted = reorder_patch_merging(converted)
    save_converted(converted, source, destination, max_query_len=length, **facts)
    why = 'unused RPN head, index buffers, which are computed anew'
    text = report(official, ignored, f', text length {length}', why, depth=2)
    return f'{text}\n{diagnose(converted)}'


def main() -> None:
    config = 'config of the model, if not the official recipe'
    run(convert, __doc__, 'official checkpoint', config, max_query_len=True)


if __name__ == '__main__':
    main()
