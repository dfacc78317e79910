"""What a model and its pipelines read from files when they are built: all that is missing, at once.

The sizes of a ReIR or VCMA depend on vocabularies and tables, so that it cannot even be built without
them.
"""

import os.path as osp
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmvg.checkpoints import check_initial_path
from mmvg.datasets.proposal_file import ProposalFile
from mmvg.datasets.roi_feature_file import RoIFeatureFile
from mmvg.datasets.video_grounding_dataset import VideoGroundingDataset
from mmvg.datasets.video_regions import VideoRegions
from mmvg.models.language_models.bert import BertEncoder
from mmvg.text import PredicateVocabulary, build_tokenizer
from mmvg.text.relation_categories import RelationCategories, RelationFile
from mmvg.text.vocabulary import Vocabulary
from mmvg.text.word_table import load_word_table

from .box_detector import check_classes
from .start_up import check_first_picture, check_together, find_config

# Arguments that may name a file, and what reads it.
_READERS = {
    'PhraseDataPreprocessor': dict(num_relations=RelationCategories.load),
    'PhraseRNN': dict(vocab_size=Vocabulary.load),
    'CategorySimilarity': dict(table=load_word_table),
    'CoarseToFineMatchingHead': dict(
        vocab_size=Vocabulary.load, num_relations=RelationCategories.load
    ),
    'RelationLoss': dict(class_counts=RelationCategories.load),
    'LoadBoxProposals': dict(proposal_file=ProposalFile, num_categories=load_word_table),
    'LoadRoIFeatures': dict(
        feature_file=RoIFeatureFile, proposal_file=ProposalFile, num_categories=load_word_table
    ),
    'EncodePhrases': dict.fromkeys(
        ('caption_vocab', 'phrase_vocab', 'table_words'), Vocabulary.load
    ),
    'LoadRelations': dict(categories=RelationCategories.load, relations=RelationFile),
    'FrozenBertEncoder': dict(tokenizer=build_tokenizer),
    'VideoTubeHead': dict(predicates=PredicateVocabulary.load),
    'ParseQueries': dict(predicates=PredicateVocabulary.load),
    'LoadTubes': dict(region_file=VideoRegions),
}
# Opening them is cheap, and tells whether they are finished.
_OPENED = ProposalFile, RoIFeatureFile, VideoRegions


def check_files(cfg: Config, splits: Iterable[str]) -> None:
    """Check the files that model and pipelines read, before anything is built.

    If one is missing, annotations, pictures and initial weights are looked for as well, so that the
    list is complete; otherwise that is done once the model is there. Proposals must have the
    categories of the model.

    Args:
        cfg (Config): May have been changed by the command line.
        splits (Iterable[str]): Of ``'train'``, ``'val'`` and ``'test'``.

    Raises:
        ValueError: All that is missing or wrong, with the command that makes it.
    """
    loaders = {split: cfg.get(f'{split}_dataloader') for split in splits}
    datasets = {split: loader.dataset for split, loader in loaders.items() if loader}
    parts = [*_parts(cfg.get('model')), *_parts(list(datasets.values()))]
    checks = [*_file_checks(parts, _shown_path(cfg)), *_category_checks(parts)]
    try:
        check_together(checks)
    except ValueError:
        check_together([*checks, *_later_checks(cfg, datasets)])
        raise


def _parts(cfg: object) -> Iterator[dict]:
    """Every dict with a type, however deep."""
    if isinstance(cfg, dict):
        if 'type' in cfg:
            yield cfg
        cfg = list(cfg.values())
    if isinstance(cfg, (list, tuple)):
        for value in cfg:
            yield from _parts(value)


def _kind(part: dict) -> str:
    kind = part['type']
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]


def _shown_path(cfg: Config) -> str:
    """Of the config, as a command takes it: below the working folder, or the name of one of mmvg's."""
    path = cfg.filename or 'CONFIG'
    near = osp.relpath(path)
    if not near.startswith(osp.pardir):
        return near
    with suppress(FileNotFoundError):
        name = Path(path).stem
        return name if find_config(name).samefile(path) else path
    return path


def _file_checks(parts: Iterable[dict], config: str) -> Iterator[Callable[[], object]]:
    seen = set()
    for part in parts:
        for argument, read in _READERS.get(_kind(part), {}).items():
            path = part.get(argument)
            if isinstance(path, str) and (path, read) not in seen:
                seen.add((path, read))
                # What is there is read once more when it is used; some of it is large.
                if not Path(path).exists() or read in _OPENED:
                    yield partial(_read, read, path, config)


def _read(read: Callable[[str], object], path: str, config: str) -> None:
    """Let errors have the whole command that makes the file, from this config."""
    try:
        read(path)
    except (FileNotFoundError, ValueError) as e:
        text = str(e).replace('DATASET-CONFIG', config)
        if 'DETECTOR-CONFIG' in text:
            text += "; the README in the config's folder says which detector"
        raise type(e)(text) from e


def _category_checks(parts: list[dict]) -> Iterator[Callable[[], object]]:
    """Whether labels of proposals mean what the model takes them for."""
    similarity = next((part for part in parts if _kind(part) == 'CategorySimilarity'), None)
    paths = {
        p.get('proposal_file') for p in parts if _kind(p) in ('LoadBoxProposals', 'LoadRoIFeatures')
    }
    for path in sorted(filter(None, paths)) if similarity else ():
        yield partial(_check_categories, path, similarity)


def _check_categories(path: str, similarity: dict) -> None:
    table = similarity.get('table')
    if not Path(path).exists() or (table and not Path(table).exists()):
        return  # which is said already
    if table:
        names, owner = load_word_table(table).category_list, f'word table {table}'
        count = len(names)
    else:
        names, owner = similarity.get('names'), 'category_similarity of the config'
        count = len(similarity['categories'])
    check_classes(ProposalFile(path), names, count, owner)


def _later_checks(cfg: Config, datasets: dict) -> Iterator[Callable[[], object]]:
    """What is checked otherwise when the model is there."""
    if 'train' in datasets and cfg.get('load_from') and not cfg.get('resume'):
        yield partial(check_initial_path, cfg.load_from)
    for split, dataset in datasets.items():
        for part in _parts(dataset):
            if 'pipeline' in part and 'ann_file' in part:
                yield partial(_check_dataset, part, split == 'train')
                yield from _video_folder_checks(part)
    for part in _parts(cfg.get('model')) if 'train' in datasets else ():
        if _kind(part) == 'FrozenBertEncoder':
            yield partial(_check_bert, part['bert'])


def _check_dataset(part: dict, training: bool) -> None:
    dataset = DATASETS.build({**part, 'pipeline': []})
    if training:
        check_first_picture(dataset)


def _video_folder_checks(part: dict) -> Iterator[Callable[[], object]]:
    """Folders that a video data set itself misses late: after its annotations, or never."""
    if not issubclass(DATASETS.get(_kind(part)) or object, VideoGroundingDataset):
        return
    root, truth = part.get('data_root') or '', part.get('with_truth', part.get('test_mode'))
    regions = [step['region_file'] for step in _parts(part['pipeline']) if 'region_file' in step]
    needed = dict(
        video=not all(Path(path).exists() for path in regions),
        annotation=truth and not Path(root, part['ann_file']).exists(),
    )
    for name, folder in (part.get('data_prefix') or {}).items():
        if needed.get(name):
            yield partial(_check_folder, osp.join(root, folder), f'{part["type"]}: {name}')


def _check_folder(folder: str, what: str) -> None:
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f'{folder}/ does not exist (data_prefix of {what}); put the files there, or correct '
            "data_root and data_prefix in the dataset config; the README in the config's folder "
            'says which'
        )


def _check_bert(bert: dict) -> None:
    """Look for pretrained weights, without the time and memory of a model."""
    with torch.device('meta'):
        encoder = BertEncoder(**bert)
    encoder.check_pretrained()
