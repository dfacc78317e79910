"""Convert an official TransVG checkpoint into one of mmvg.

    python tools/model_converters/transvg.py TransVG_unc.pth transvg_r50_refcoco.pth

Every tensor of the source is either converted or listed as ignored; a file with unknown, missing or
wrongly shaped tensors is refused. The order of the position rows, [REG, text, visual], is the same
on both sides (spec section 1.9).
"""

# The folder of a script comes first on Python's path.
from names import INDEX_BUFFERS, TRANSVG, State, rename
from official import (
    check_against_model,
    fit_query_length,
    load_official,
    model_config,
    naming,
    report,
    run,
    save_converted,
    transvg_recipe,
)


def convert_state_dict(source: State) -> tuple[State, list[str]]:
    """Rename the tensors of an official TransVG; see :func:`names.rename`."""
    advice = (
        'This converter reads official TransVG checkpoints (ResNet and BERT), not those of QRNet '
        '(tools/model_converters/qrnet.py) or other projects. Initial weights from DETR: '
        'tools/model_converters/detr.py.'
    )
    return rename(source, TRANSVG, INDEX_BUFFERS, 'TransVG', advice)


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
    with naming(source):
        converted, ignored = convert_state_dict(official)
        model_cfg = model_config(config or transvg_recipe(converted))
        wanted = max_query_len or (model_cfg.bbox_head.max_query_len if config else None)
        length = fit_query_length(converted, model_cfg, wanted)
        check_against_model(converted, model_cfg)
    save_converted(converted, source, destination, max_query_len=length, **facts)
    text = report(official, ignored, f', text length {length}', 'index buffers and counters')
    visual = sum(name.startswith(('backbone.', 'neck.', 'visual_encoder.')) for name in converted)
    return f'{text}\nvisual branch: {visual} tensors of visumodel loaded, all that the model has'


def main() -> None:
    config = 'config of the model, if not an official recipe'
    run(convert, __doc__, 'official checkpoint, e.g. TransVG_unc.pth', config, max_query_len=True)


if __name__ == '__main__':
    main()
