"""The data sets of a config, within whatever wrappers."""

from collections.abc import Iterator, Sequence

from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry

SPLITS = ('train', 'val', 'test')


def single_datasets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The configs that ConcatDataset, RepeatDataset and the like wrap, however deep; else itself."""
    wrapped = dataset.get('dataset')
    inner = [wrapped] if wrapped else dataset.get('datasets')
    if inner is None:
        yield dataset
    else:
        for part in inner:
            yield from single_datasets(part)


def split_datasets(cfg: Config, splits: Sequence[str] = SPLITS) -> list[tuple[str, ConfigDict]]:
    """The single data sets of a config, each with its split.

    Args:
        cfg (Config): Splits that it lacks, or that are None, have none.
        splits (Sequence[str]): Some of ``'train'``, ``'val'`` and ``'test'``.

    Raises:
        ValueError: If none of the splits has any.
    """
    loaders = {split: cfg.get(f'{split}_dataloader') or {} for split in splits}
    found = [
        (split, part)
        for split, loader in loaders.items()
        if loader.get('dataset')
        for part in single_datasets(loader['dataset'])
    ]
    if not found:
        raise ValueError(
            f'{cfg.filename or "the config"} has no data set for {", ".join(splits)}; choose a config '
            f'with a dataset in {" or ".join(f"{split}_dataloader" for split in splits)}'
        )
    return found


def class_of(config: dict, registry: Registry = DATASETS) -> type:
    """What a config would build: of a name or a class; ``object`` if it has none that is known."""
    kind = config.get('type')
    return (registry.get(kind) if isinstance(kind, str) else kind) or object
