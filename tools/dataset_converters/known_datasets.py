"""Where the five data sets' files belong, and how many expressions each split must have."""

import os
from dataclasses import dataclass
from pathlib import Path

_REFER = 'issues 14, 23 and 26 of github.com/lichengunc/refer list mirrors'
_TRANSVG = 'docs/GETTING_STARTED.md of github.com/djiajunustc/TransVG links data.tar'
_COCO = 'cocodataset.org/#download, 2014 Train images (13 GB)'


@dataclass(frozen=True)
class Layout:
    """One form in which a data set's annotations are distributed.

    Attributes:
        dataset (dict): Config of a data set class; ``{split}`` in a value stands for the split.
        paths (tuple): Keys of ``dataset`` that are files or folders.
        source (str): Where the files come from.
    """

    dataset: dict
    paths: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class KnownDataset:
    """A data set of the papers.

    Attributes:
        home (str): Its folder: ``data/HOME``, or that of the variable ``root_variable``.
        pictures (str): Folder of the pictures in it.
        pictures_source (str): Where they come from.
        totals (dict): Split -> number of expressions (phrases with a box for Flickr30k Entities).
        layouts (dict): Name -> layout, the usual one first.
        shares_pictures (str): Why splits may have pictures in common; '' if they must not.
    """

    home: str
    root_variable: str
    pictures: str
    pictures_source: str
    totals: dict[str, int]
    layouts: dict[str, Layout]
    shares_pictures: str = ''


def _coco(folder: str, partition: str, index: str, totals: dict, **kwargs) -> KnownDataset:
    refer = dict(
        type='ReferringExpressionDataset',
        layout='refer',
        ann_file=f'{folder}/refs({partition}).p',
        instances_file=f'{folder}/instances.json',
        split='{split}',
    )
    transvg = dict(
        type='ReferringExpressionDataset',
        layout='transvg',
        ann_file=f'{index}/{index}_{{split}}.pth',
    )
    layouts = {
        'refer': Layout(refer, ('ann_file', 'instances_file'), _REFER),
        'transvg': Layout(transvg, ('ann_file',), _TRANSVG),
    }
    return KnownDataset('coco', 'MMVG_DATA_ROOT', 'train2014', _COCO, totals, layouts, **kwargs)


DATASETS_OF_THE_PAPERS = {
    'refcoco': _coco(
        *('refcoco', 'unc', 'unc'), dict(train=120624, val=10834, testA=5657, testB=5095)
    ),
    'refcocoplus': _coco(
        *('refcoco+', 'unc', 'unc+'), dict(train=120191, val=10758, testA=5726, testB=4889)
    ),
    'refcocog-g': _coco(
        *('refcocog', 'google', 'gref'),
        dict(train=85474, val=9536),
        shares_pictures='the google partition divides objects, not pictures',
    ),
    'refcocog-u': _coco(*('refcocog', 'umd', 'gref_umd'), dict(train=80512, val=4896, test=9602)),
    'referit': KnownDataset(
        home='referit',
        root_variable='MMVG_REFERIT_ROOT',
        pictures='images',
        pictures_source='the ReferItGame release (SAIAPR TC-12) or a mirror of it',
        totals=dict(train=54127, val=5842, test=60103),
        layouts={
            'transvg': Layout(
                dict(type='ReferItGameDataset', layout='transvg', ann_file='referit_{split}.pth'),
                ('ann_file',),
                _TRANSVG,
            ),
            'original': Layout(
                dict(
                    type='ReferItGameDataset',
                    layout='original',
                    ann_file='referit_query_{split}.json',
                    bbox_file='referit_bbox.json',
                    imsize_file='referit_imsize.json',
                ),
                ('ann_file', 'bbox_file', 'imsize_file'),
                'exp-referit/data of github.com/ronghanghu/text_objseg',
            ),
        },
    ),
    'flickr30k': KnownDataset(
        home='flickr30k',
        root_variable='MMVG_FLICKR30K_ROOT',
        pictures='flickr30k-images',
        pictures_source='shannon.cs.illinois.edu/DenotationGraph, which asks for a form (4.4 GB)',
        totals=dict(train=427193, val=14433, test=14481),
        layouts={
            'transvg': Layout(
                dict(
                    type='Flickr30kEntitiesDataset',
                    layout='transvg',
                    ann_file='flickr_{split}.pth',
                ),
                ('ann_file',),
                _TRANSVG,
            ),
            'entities': Layout(
                dict(
                    type='Flickr30kEntitiesDataset',
                    layout='entities',
                    ann_file='{split}.txt',
                    annotation_dir='Annotations',
                    sentence_dir='Sentences',
                ),
                ('ann_file', 'annotation_dir', 'sentence_dir'),
                'annotations.zip and split lists of github.com/BryanPlummer/flickr30k_entities',
            ),
        },
    ),
}


def find(known: KnownDataset, name: str, root: str | None) -> Path:
    """Where a file of a data set is, or should be.

    Args:
        known (KnownDataset): The data set.
        name (str): Path of the file below the folder of the data set.
        root (str, optional): The folder of the data set, or the one above it. Default: the
            environment variable that the configs read, or ``data/HOME``.
    """
    if root is None:
        return Path(os.environ.get(known.root_variable, f'data/{known.home}'), name)
    places = [Path(root, name), Path(root, known.home, name)]
    usual = places[0] if Path(root).resolve().name == known.home else places[1]
    return next((place for place in places if place.exists()), usual)


def split_config(
    known: KnownDataset, layout: Layout, split: str, root: str | None
) -> tuple[dict, list[Path]]:
    """Config of a split with absolute paths, and the annotation files and folders that it needs."""
    cfg = {
        key: value.replace('{split}', split) if isinstance(value, str) else value
        for key, value in layout.dataset.items()
    }
    paths = {key: find(known, cfg[key], root).absolute() for key in layout.paths}
    cfg.update((key, str(path)) for key, path in paths.items())
    cfg['data_prefix'] = dict(img=str(find(known, known.pictures, root).absolute()))
    return cfg, list(paths.values())
