"""ReIR for users: captions in, boxes of phrases out, from a detector or a proposal file."""

import copy
import json

import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmvg.apis import GroundingInferencer
from mmvg.datasets import ShapesCaptionDataset
from mmvg.datasets.proposal_writer import ProposalWriter
from mmvg.datasets.shapes import CLASSES

TEXT = 'a red circle left of a blue square'


@pytest.fixture(scope='module')
def cfg(repository):
    return Config.fromfile(str(repository / 'configs/reir/reir_shapes.py'))


@pytest.fixture(scope='module')
def detector(repository, tmp_path_factory):
    """Config and checkpoint of the detector of Shapes, untrained but sure enough of some boxes."""
    path = repository / 'configs/transvg/fcos_shapes.py'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(str(path)).model)
    model.bbox_head.conv_cls.bias.data.zero_()
    checkpoint = tmp_path_factory.mktemp('detector') / 'fcos.pth'
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return str(path), str(checkpoint)


@pytest.fixture(scope='module')
def inferencer(cfg, detector):
    torch.manual_seed(0)
    return GroundingInferencer(cfg, device='cpu', detector=detector)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Pictures of three scenes and their captions."""
    folder = tmp_path_factory.mktemp('scenes')
    dataset = ShapesCaptionDataset(split='test', num_scenes=3, pipeline=[])
    paths, captions = [], []
    for i in range(3):
        record = dataset.get_data_info(i)
        paths.append(str(folder / f'{i}.png'))
        mmcv.imwrite(record['img'], paths[-1])
        captions.append(record['caption'])
    return paths, captions


def test_a_caption_gives_a_box_per_phrase(inferencer, scenes, tmp_path):
    (path, *_), _ = scenes
    result = inferencer(path, TEXT, out_dir=str(tmp_path))
    (found,) = result['predictions']
    assert found['queries'] == ['a red circle', 'a blue square'] and found['caption'] == TEXT
    assert found['spans'] == [[0, 3], [5, 8]] and len(found['scores']) == 2
    boxes = np.array(found['bboxes'])
    assert boxes.shape == (2, 4) and (boxes >= 0).all() and (boxes <= 64).all()
    json.dumps(result)
    assert mmcv.imread(result['visualization'][0]).shape[0] > 320 + 40


def test_marked_phrases_and_several_texts(inferencer, scenes):
    paths, captions = scenes
    texts = ['[a red circle] left of a blue square', TEXT]
    one, two = inferencer(paths[0], texts)['predictions']
    assert one['queries'] == ['a red circle'] and two['queries'] == [
        'a red circle',
        'a blue square',
    ]
    assert one['image'] == two['image'] == paths[0]
    several = inferencer(paths, captions, batch_size=2)['predictions']
    assert [p['caption'] for p in several] == captions
    for path, caption, expected in zip(paths, captions, several, strict=True):
        (alone,) = inferencer(path, caption)['predictions']
        np.testing.assert_allclose(alone['bboxes'], expected['bboxes'], atol=1e-3)


def test_a_picture_is_detected_once(inferencer, scenes, monkeypatch):
    calls, predict = [], inferencer.boxes.detector.predict
    monkeypatch.setattr(
        inferencer.boxes.detector, 'predict', lambda batch: calls.append(1) or predict(batch)
    )
    inferencer(scenes[0][:2], [[TEXT, 'a circle'], [TEXT]])
    assert len(calls) == 2


def test_relations_count_and_boxes_have_the_model_s_categories(inferencer, scenes, monkeypatch):
    seen, match = [], inferencer.model.match
    monkeypatch.setattr(
        inferencer.model, 'match', lambda inputs: seen.append(inputs) or match(inputs)
    )
    inferencer(scenes[0][0], TEXT)
    (inputs,) = seen
    assert inputs['relations'].tolist() == [[0, 0, 1]]
    boxes = inferencer.boxes.detector
    assert boxes.classes == list(CLASSES)
    assert inputs['labels'].max() <= 2 < len(boxes.classes)
    expected = [('circle', 'square', 'triangle').index(name.split()[-1]) for name in CLASSES]
    assert inferencer.boxes.categories.tolist() == expected


def write_proposals(folder, path):
    with ProposalWriter(folder, dict(classes=['circle', 'square', 'triangle'])) as writer:
        boxes = np.array([[0.0, 0, 20, 20], [30, 30, 60, 60], [5, 40, 25, 60]])
        writer.add(path.rsplit('/', 1)[1], boxes, np.ones(3), np.arange(3), (64, 64))


def test_boxes_of_a_proposal_file(cfg, scenes, tmp_path):
    write_proposals(tmp_path / 'proposals', scenes[0][0])
    with_file = copy.deepcopy(cfg)
    pipeline = with_file.test_dataloader.dataset.pipeline
    (step,) = (s for s in pipeline if s['type'] == 'LoadBoxProposals')
    step['proposal_file'] = str(tmp_path / 'proposals')
    inferencer = GroundingInferencer(with_file, device='cpu')
    (found,) = inferencer(scenes[0][0], TEXT)['predictions']
    assert found['bboxes'] == [[0, 0, 20, 20], [30, 30, 60, 60]]  # the only circle and square
    with pytest.raises(
        ValueError, match=r"has no picture '1' or '1.png'.*; or let a detector find"
    ):
        inferencer(scenes[0][1], TEXT)
    step['proposal_file'] = str(tmp_path / 'absent')
    with pytest.raises(FileNotFoundError, match='absent does not exist.*--detector CONFIG'):
        GroundingInferencer(with_file, device='cpu')


def test_detectors_are_asked_for_and_refused(cfg, repository, detector):
    with pytest.raises(
        ValueError, match='chooses among the boxes of a detector, and has none; let'
    ):
        GroundingInferencer(cfg, device='cpu')
    with pytest.raises(ValueError, match='finds boxes itself: leave the detector out'):
        GroundingInferencer('transvg_shapes', device='cpu', detector=detector)
    with pytest.raises(FileNotFoundError, match='none.pth does not exist'):
        GroundingInferencer(cfg, device='cpu', detector=(detector[0], 'none.pth'))
    cached = copy.deepcopy(cfg)
    cached.test_dataloader.dataset.pipeline[0] = dict(type='LoadRoIFeatures', feature_file='x')
    with pytest.raises(ValueError, match='stored features'):
        GroundingInferencer(cached, device='cpu', detector=detector)


def test_unusable_texts_are_named(inferencer, scenes):
    with pytest.raises(ValueError, match="text 'a purple circle'.*neither 'purple'"):
        inferencer(scenes[0][0], 'a purple circle')
    with pytest.raises(ValueError, match="no phrase was found in 'of'"):
        inferencer(scenes[0][0], 'of')


def test_without_relations_a_text_is_one_phrase(cfg, detector, scenes):
    plain = copy.deepcopy(cfg)
    plain.model.neck = None
    plain.model.loss_relation = None
    inferencer = GroundingInferencer(plain, device='cpu', detector=detector)
    for text, queries in ((TEXT, [TEXT]), (f'[{TEXT[:12]}] left of a square', ['a red circle'])):
        assert inferencer(scenes[0][0], text)['predictions'][0]['queries'] == queries


def test_nothing_detected_is_no_answer(cfg, detector, scenes):
    inferencer = GroundingInferencer(cfg, device='cpu', detector=detector)
    inferencer.boxes.load.min_score = 2.0
    (found,) = inferencer(scenes[0][0], TEXT)['predictions']
    assert found['scores'] == [0, 0] and len(found['bboxes']) == 2
