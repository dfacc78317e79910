"""Data sets of configs with and without wrappers."""

import pytest
from mmengine.config import Config, ConfigDict

from mmvg.apis import class_of, single_datasets, split_datasets
from mmvg.apis.inference import find_pipeline
from mmvg.datasets import GroundingJSONLDataset

PLAIN = dict(type='GroundingJSONLDataset', ann_file='a.jsonl', pipeline=[dict(type='A')])
OTHER = dict(type='ShapesGroundingDataset')
REPEATED = dict(type='RepeatDataset', times=3, dataset=PLAIN)
WRAPPED = dict(
    type='ConcatDataset', datasets=[REPEATED, dict(type='ConcatDataset', datasets=[OTHER])]
)


@pytest.mark.parametrize(
    ('dataset', 'expected'),
    [(PLAIN, [PLAIN]), (REPEATED, [PLAIN]), (WRAPPED, [PLAIN, OTHER])],
)
def test_what_wrappers_hold(dataset, expected):
    dataset = ConfigDict(dataset)
    assert list(single_datasets(dataset)) == expected
    cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    assert find_pipeline(cfg) == PLAIN['pipeline']
    # No copies: a tool may change them.
    next(single_datasets(cfg.test_dataloader.dataset)).pipeline = []
    with pytest.raises(ValueError, match='no test_dataloader.dataset.pipeline'):
        find_pipeline(cfg)


def test_splits_of_a_config():
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=WRAPPED),
            val_dataloader=None,
            test_dataloader=dict(dataset=PLAIN),
        )
    )
    assert split_datasets(cfg) == [('train', PLAIN), ('train', OTHER), ('test', PLAIN)]
    assert split_datasets(cfg, ['val', 'test']) == [('test', PLAIN)]
    with pytest.raises(ValueError, match=r'has no data set for val; .* dataset in val_dataloader'):
        split_datasets(cfg, ['val'])
    with pytest.raises(ValueError, match=r'val_dataloader or test_dataloader'):
        split_datasets(Config(dict(test_dataloader=dict(num_workers=1))), ['val', 'test'])


@pytest.mark.parametrize(
    ('kind', 'expected'),
    [
        ('GroundingJSONLDataset', GroundingJSONLDataset),
        (GroundingJSONLDataset, GroundingJSONLDataset),
        ('NoSuchDataset', object),
    ],
)
def test_class_of_a_data_set(kind, expected):
    assert class_of(dict(type=kind)) is expected
