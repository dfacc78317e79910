"""Weak means weak: what ReIR learns does not depend on annotated boxes, to the last bit."""

import copy

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper

from mmvg.models.detectors import ReIR

BOXES = ('bboxes', 'all_bboxes', 'instances', 'gt_bboxes', 'gt_bboxes_labels')


@pytest.fixture(scope='module', autouse=True)
def tampering():
    """A transform that stands behind the loader of pictures: detections of Shapes are made by then."""

    class TamperWithBoxes(BaseTransform):
        def __init__(self, how: str) -> None:
            self.how = how

        def transform(self, results: dict) -> dict:
            assert 'bboxes' in results, 'there is nothing to tamper with: weak test'
            if self.how == 'delete':
                for key in BOXES + ('scene', 'height', 'width'):
                    results.pop(key, None)
            elif self.how == 'garbage':
                height, width = results['ori_shape']
                place = np.random.RandomState(
                    results.get('sentence_id', 0) + len(results['caption'])
                )
                corners = (
                    place.rand(len(results['queries']), 4) * [width, height, width, height] / 2
                )
                results['bboxes'] = (corners + [0, 0, width / 2, height / 2]).tolist()
                for key in ('all_bboxes', 'instances', 'scene'):
                    results.pop(key, None)
            return results

    TRANSFORMS.register_module(module=TamperWithBoxes)
    yield
    TRANSFORMS.module_dict.pop('TamperWithBoxes')


def flickr30k(folder, repository):
    """Two pictures with three captions in the official layout, and boxes of a detector in a file."""
    from PIL import Image

    from mmvg.datasets.proposal_writer import ProposalWriter

    random = np.random.RandomState(0)
    captions = (
        '[/EN#1/people A man] rides [/EN#2/other a bike] in [/EN#3/scene the street] .',
        '[/EN#1/people A man] in [/EN#4/clothing a red shirt] .',
        'Nobody , but [/EN#1/people a man] .',
    )
    for name in ('Annotations', 'Sentences', 'flickr30k-images'):
        (folder / name).mkdir()
    with ProposalWriter(folder / 'proposals', dict(classes=['man', 'bike', 'shirt'])) as writer:
        for key in ('7', '8'):
            Image.fromarray(random.randint(0, 255, (48, 64, 3), np.uint8)).save(
                folder / f'flickr30k-images/{key}.jpg'
            )
            objects = ''.join(
                f'<object><name>{chain}</name><bndbox><xmin>{chain}</xmin><ymin>5</ymin>'
                f'<xmax>{20 + chain}</xmax><ymax>40</ymax></bndbox></object>'
                for chain in (1, 2, 4)
            )
            (folder / f'Annotations/{key}.xml').write_text(
                '<annotation><size><width>64</width><height>48</height></size>'
                f'{objects}</annotation>'
            )
            (folder / f'Sentences/{key}.txt').write_text('\n'.join(captions))
            corners = random.rand(12, 2) * 30
            boxes = np.concatenate([corners, corners + 8 + random.rand(12, 2) * 9], 1)
            writer.add(f'{key}.jpg', boxes, random.rand(12), random.randint(0, 3, 12), (48, 64))
    (folder / 'train.txt').write_text('7\n8\n')
    words = 'a man rides bike in the street red shirt nobody , but .'.split()
    categories = folder / 'categories.json'
    categories.write_text('{"categories": ["ride"], "counts": [2], "parts": "never"}')
    encode = dict(
        type='EncodePhrases',
        caption_vocab=words,
        phrase_vocab=words,
        table_words=['man', 'bike', 'shirt'],
    )
    return dict(
        type='Flickr30kEntitiesDataset',
        data_root=str(folder),
        ann_file='train.txt',
        data_prefix=dict(img='flickr30k-images/'),
        multi_box='any',
        pipeline=[
            dict(type='LoadGroundingImage'),
            dict(type='LoadQueryAnnotations'),
            dict(type='LoadBoxProposals', proposal_file=str(folder / 'proposals')),
            dict(type='LoadRelations', categories=str(categories)),
            encode,
            dict(type='PackGroundingInputs'),
        ],
    )


def shapes(folder, repository):
    """The Shapes recipe's own training set, few scenes; this one with its annotated boxes loaded."""
    cfg = Config.fromfile(str(repository / 'configs/reir/reir_shapes.py'))
    dataset = copy.deepcopy(cfg.train_dataloader.dataset)
    dataset.num_scenes = 12
    load, *rest = dataset.pipeline
    assert 'LoadQueryAnnotations' not in [step['type'] for step in rest]
    dataset.pipeline = [load, dict(type='LoadQueryAnnotations'), *rest]
    return dataset


def train(dataset, how, repository, steps=6, batch=4):
    """Losses of a few steps over the start of refinement, all weights, and the samples seen."""
    pipeline = list(dataset['pipeline'])
    pipeline.insert(1, dict(type='TamperWithBoxes', how=how))
    if how == 'not loaded':
        pipeline = [step for step in pipeline if step['type'] != 'LoadQueryAnnotations']
    samples = DATASETS.build(dict(dataset, pipeline=pipeline))
    cfg = Config.fromfile(str(repository / 'configs/reir/reir_shapes.py'))
    cfg.model.refine_start = 2
    for stage in ('coarse', 'fine'):
        # So that they are at work from the first step on.
        cfg.model[f'loss_reg_{stage}'].update(score_gap=0.0, iou_thr=0.3)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    wrapper = OptimWrapper(torch.optim.AdamW([p for p in model.parameters() if p.requires_grad]))
    log, seen, before = [], [], model.neck.gate.weight.clone()
    for step in range(steps):
        items = [samples[(step * batch + i) % len(samples)] for i in range(batch)]
        seen += [item['data_samples'] for item in items]
        log.append(
            {k: v.clone() for k, v in model.train_step(pseudo_collate(items), wrapper).items()}
        )
    assert model.refining == (steps > 3) and not torch.equal(before, model.neck.gate.weight)
    return log, model.state_dict(), seen


@pytest.mark.parametrize('data', [shapes, flickr30k])
def test_annotated_boxes_change_nothing(data, tmp_path, repository):
    """Present, deleted from the samples, replaced by others, or not even loaded."""
    dataset = data(tmp_path, repository)
    log, weights, seen = train(dataset, 'keep', repository)
    assert all(len(s.gt_instances.bboxes) == len(s.queries) for s in seen)
    # All terms of the loss take part.
    names = {f'loss_{name}' for name in ReIR.LOSSES} - {'loss_consistency'}
    assert all(sum(step[name] > 0 for step in log) >= 3 for name in names)
    for how in ('delete', 'garbage', 'not loaded'):
        other_log, other_weights, other_seen = train(dataset, how, repository)
        if how == 'garbage':
            pairs = zip(seen, other_seen, strict=True)
            assert all(
                not torch.equal(a.gt_instances.bboxes, b.gt_instances.bboxes) for a, b in pairs
            )
        else:
            assert not any('gt_instances' in s and len(s.gt_instances) for s in other_seen)
        for step, other in zip(log, other_log, strict=True):
            assert step.keys() == other.keys()
            assert all(torch.equal(step[k], other[k]) for k in step), how
        assert weights.keys() == other_weights.keys()
        assert all(torch.equal(weights[k], other_weights[k]) for k in weights), how


def test_the_test_would_notice(tmp_path, repository):
    """Boxes of a detector do change what is learned."""
    dataset = shapes(tmp_path, repository)
    log, *_ = train(dataset, 'keep', repository, steps=1)
    dataset.jitter = 0.25
    other, *_ = train(dataset, 'keep', repository, steps=1)
    assert not torch.equal(log[0]['loss'], other[0]['loss'])
