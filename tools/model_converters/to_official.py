"""Convert a TransVG or QRNet checkpoint of mmvg into one that the official code reads.

    python tools/model_converters/to_official.py work_dirs/.../best.pth TransVG_unc.pth

The reverse of transvg.py and qrnet.py, bit for bit. The model is recognised by its tensors. One
that the official code cannot build is refused. Options that leave no trace in the tensors are taken
from the config.
"""

from operator import attrgetter

from mmengine.config import ConfigDict

# The folder of a script comes first on Python's path.
from names import (
    INDEX_BUFFERS,
    QRNET,
    TRANSVG,
    State,
    add_position_index,
    rename,
    reorder_patch_merging,
)
from official import (
    QRNET_RECIPE,
    check_against_model,
    facts,
    fit_query_length,
    model_config,
    naming,
    report,
    run,
    save,
    transvg_recipe,
)

from mmvg.apis import read_checkpoint
from mmvg.checkpoints.messages import some

REMEDY = (
    'Pass --config with the config that it was trained with. Parts that TransVG and QRNet do not '
    'have in the official code cannot be converted.'
)


def is_qrnet(state: State) -> bool:
    """Tell QRNet from TransVG by the backbone.

    Raises:
        ValueError: If it is neither.
    """
    if any(name.startswith('backbone.stages.') for name in state):
        return True
    if any(name.startswith('backbone.layer1.') for name in state):
        return False
    raise ValueError(
        'this is no TransVG (backbone.layer1.*) and no QRNet (backbone.stages.*) of mmvg: '
        f'its tensors are {some(list(state))}. Give a checkpoint that tools/train.py or a converter '
        'of this folder wrote.'
    )


def check_released_form(model_cfg: dict) -> None:
    """Raise ValueError if the model has options that the official code does not know."""
    released = {'bbox_head.num_heads': 8}
    if model_cfg.type == 'QRNet':
        for part in ('backbone', 'neck'):
            released.update({f'{part}.gate_cfg.rank': 30, f'{part}.gate_cfg.reduction': 16})
    options = ConfigDict(model_cfg)
    found = {name: attrgetter(name)(options) for name in released}
    wrong = {name: value for name, value in found.items() if value != released[name]}
    if wrong:
        raise ValueError(f'the official code has {released}, this model {wrong}')


def convert_state_dict(state: State) -> tuple[State, list[str]]:
    """The official names and layout of a model's tensors, and the names left out.

    Args:
        state (dict): Tensors that have the shapes of a model.
    """
    swin = is_qrnet(state)
    table, model = (QRNET, 'QRNet') if swin else (TRANSVG, 'TransVG')
    if swin:
        state = reorder_patch_merging(state, inverse=True)
    advice = 'No official code could read them.'
    renamed, ignored = rename(
        state, table, INDEX_BUFFERS, f'the official {model}', advice, inverse=True
    )
    return add_position_index(renamed), ignored


def convert(source: str, destination: str, config: str | None = None) -> str:
    """Convert the file ``source`` into ``destination`` and return a report.

    Args:
        source (str): Checkpoint of mmvg.
        destination (str): Where to write ``{'model'}``, and ``epoch`` and ``val_accu`` where the
            source records them.
        config (str, optional): Config of the model. By default the official recipe, with the
            checkpoint's own text length.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be converted completely.
    """
    state, meta = read_checkpoint(source)
    with naming(source):
        recipe = QRNET_RECIPE if is_qrnet(state) else transvg_recipe(state)
        model_cfg = model_config(config or recipe)
        wanted = model_cfg.bbox_head.max_query_len if config else None
        length = fit_query_length(state, model_cfg, wanted)
        check_against_model(state, model_cfg, remedy=REMEDY)
        check_released_form(model_cfg)
        official, ignored = convert_state_dict(state)
    known = facts(meta)
    if 'epoch' in known and 'converted_from' not in meta:
        known['epoch'] -= 1  # official: the last epoch, from 0; mmengine: how many are finished
    save({'model': official, **known}, destination)
    why = 'index buffers, which are computed anew'
    return report(state, ignored, f', text length {length}', why)


def main() -> None:
    config = 'config of the model, if not an official recipe'
    run(convert, __doc__, 'checkpoint of mmvg', config)


if __name__ == '__main__':
    main()
