"""Features that are computed once, and training from them, against the live path."""

import copy
import json

import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

from mmvg.datasets.proposal_writer import ProposalWriter
from mmvg.datasets.roi_feature_file import RoIFeatureFile

TOOL = 'analysis_tools/extract_roi_features.py'
PACK = dict(type='PackGroundingInputs')
SCENES = 8
TOTAL = f'train_dataloader.dataset.num_scenes={SCENES}'


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def cfg(repository):
    cfg = Config.fromfile(repository / 'configs/reir/reir_shapes.py')
    cfg.model.refine_start = 2
    return cfg


@pytest.fixture
def model(cfg, tmp_path):
    """ReIR with weights of its own, which are in the file ``weights.pth`` too."""
    torch.manual_seed(3)
    model = MODELS.build(cfg.model)
    model.backbone.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    return model


@pytest.fixture
def extract(call_tool, repository, model, tmp_path):
    """Run the tool on the training set of generated captions; returns the file."""

    def run(name='features', *options, config=repository / 'configs/reir/reir_shapes.py'):
        args = ['--checkpoint', tmp_path / 'weights.pth', '--num-workers', 0, '--device', 'cpu']
        args += ['--split', 'train', '--batch-size', 4, *options]
        call_tool(TOOL, config, '--out', tmp_path / name, *args, '--cfg-options', TOTAL)
        return str(tmp_path / name)

    return run


def dataset(cfg, pipeline, **options):
    options = dict(num_scenes=SCENES, pipeline=pipeline) | options
    return DATASETS.build({**cfg.train_dataloader.dataset, **options})


def train(model, data, steps=5):
    """Losses of every step, the weights and the answers afterwards, and how often the backbone ran."""
    model = copy.deepcopy(model).train()
    calls, losses = [], []
    model.backbone.register_forward_hook(lambda *_: calls.append(int(model.iteration)))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-2, 0.9)
    for step in range(steps):
        batch = pseudo_collate([data[i] for i in range(4 * (step % 2), 4 * (step % 2) + 4)])
        found = model(**model.data_preprocessor(batch, True), mode='loss')
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
        losses.append(found)
    model.eval()
    with torch.no_grad():
        samples = model.test_step(pseudo_collate([data[i] for i in range(4)]))
    return losses, model.state_dict(), [s.pred_instances for s in samples], calls


@pytest.fixture
def live(cfg, model):
    return train(model, dataset(cfg, cfg.train_pipeline))


def pipelines(cfg, path):
    load = dict(type='LoadRoIFeatures', feature_file=path)
    return {
        'maps': [dict(load, maps=True), cfg.encode, PACK],
        'pictures': [dict(type='LoadGroundingImage'), load, cfg.encode, PACK],
    }


def test_cached_training_is_bit_identical_to_live_training(cfg, model, live, extract):
    """Before and after boxes are refined; and so are the answers."""
    path = extract('features', '--maps', 'float32')
    assert live[3] == [0, 1, 2, 3, 4, 5]
    for name, pipeline in pipelines(cfg, path).items():
        losses, weights, answers, calls = train(model, dataset(cfg, pipeline))
        # refine_start is 2: boxes move from the fourth step on, which sees iteration 3.
        assert calls == ([] if name == 'maps' else [3, 4, 5])
        for found, expected in zip(losses, live[0], strict=True):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[k], expected[k]) for k in found), name
        assert all(torch.equal(weights[k], live[1][k]) for k in weights)
        for found, expected in zip(answers, live[2], strict=True):
            for key in ('bboxes', 'coarse_bboxes', 'fine_bboxes', 'scores'):
                assert torch.equal(found[key], expected[key])


def test_half_precision_changes_the_losses_of_a_step_by_less_than_a_thousandth(
    cfg, model, live, extract
):
    path = extract('features', '--maps', 'float16', '--features', 'float16')
    first = train(model, dataset(cfg, pipelines(cfg, path)['maps']), steps=1)[0][0]
    for key, value in first.items():
        torch.testing.assert_close(value, live[0][0][key], rtol=1e-3, atol=1e-3)
    assert any(not torch.equal(first[k], live[0][0][k]) for k in first)


def test_mixed_precision_and_whole_pictures(cfg, model, extract):
    """Under autocast refined boxes are read from cached maps; KAC Net needs the map at every step."""
    data = dataset(cfg, pipelines(cfg, extract('features', '--maps', 'float32'))['maps'])
    model.refine = 'always'
    with torch.autocast('cpu', torch.bfloat16):
        losses = train(model, data, steps=2)[0]
    assert all(value.isfinite() for found in losses for value in found.values())
    cfg.model.bbox_head.predict_places = True
    cfg.model.loss_consistency = dict(type='VisualConsistencyLoss')
    kac = MODELS.build(cfg.model)
    kac.load_state_dict(model.state_dict(), strict=False)
    expected = train(kac, dataset(cfg, cfg.train_pipeline), steps=2)[0]
    for found, value in zip(train(kac, data, steps=2)[0], expected, strict=True):
        assert all(torch.equal(found[key], value[key]) for key in value)


def test_model_without_refinement_needs_neither_picture_nor_map(cfg, model, extract):
    load = dict(type='LoadRoIFeatures', feature_file=extract())
    data = dataset(cfg, [load, cfg.encode, PACK])
    assert 'inputs' not in data[0]
    with pytest.raises(ValueError, match='gives features of proposals only, but this model needs'):
        train(model, data, steps=1)
    model.refine = 'never'
    expected = train(model, dataset(cfg, cfg.train_pipeline), steps=2)
    losses, weights, _, calls = train(model, data, steps=2)
    assert not calls and all(torch.equal(weights[k], expected[1][k]) for k in weights)


def test_a_stopped_run_goes_on(extract, tmp_path):
    whole = extract('whole', '--maps', 'float16')
    stopped = tmp_path / extract('stopped', '--maps', 'float16')
    journal = stopped / 'journal.jsonl'  # as if killed while it wrote the fourth picture
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(''.join(lines[:3]) + lines[3][:5])
    (stopped / 'index.npy').unlink()
    with pytest.raises(ValueError, match='RoI feature file .* is not finished; .*extract_roi_feat'):
        RoIFeatureFile(stopped)
    extract('stopped', '--maps', 'float16')
    for name in ('boxes.npy', 'index.npy'):
        assert (stopped / name).read_bytes() == (tmp_path / whole / name).read_bytes()
    a, b = RoIFeatureFile(whole), RoIFeatureFile(stopped)
    for key in a.keys():
        found, expected = b.load(key, with_map=True), a.load(key, with_map=True)
        np.testing.assert_allclose(found.feature_map, expected.feature_map, atol=1e-3)
        np.testing.assert_allclose(found.proposals.features, expected.proposals.features, atol=1e-5)


def test_another_backbone_is_refused(cfg, model, extract):
    path = extract('features', '--maps', 'float16')
    data = dataset(cfg, pipelines(cfg, path)['maps'])
    train(model, data, steps=1)
    other = copy.deepcopy(model)
    next(other.backbone.parameters()).data.flatten()[0] += 1e-6
    with pytest.raises(ValueError, match=f'{path} was made with another backbone .*extract_roi'):
        train(other, data, steps=1)
    cfg.model.roi_extractor.roi_layer.sampling_ratio = 1
    cfg.model.data_preprocessor.mean[0] += 1
    other = MODELS.build(cfg.model)
    other.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match='with another data_preprocessor, roi_extractor '):
        train(other, data, steps=1)


def test_other_pictures_and_proposals_are_refused(cfg, extract):
    path = extract('features', '--maps', 'float16')
    pipeline = pipelines(cfg, path)['maps']
    with pytest.raises(
        ValueError, match=r"no picture '8' or 'shapes_train_000008.png' .* among its 8"
    ):
        dataset(cfg, pipeline, num_scenes=SCENES + 1)[SCENES]
    for options in (dict(seed=1), dict(jitter=0.1), dict(label_noise=0.9)):
        with pytest.raises(
            ValueError, match='has other proposals .bboxes|has other proposals .lab'
        ):
            [dataset(cfg, pipeline, **options)[i] for i in range(SCENES)]
    with pytest.raises(ValueError, match='no feature maps'):
        dataset(cfg, pipelines(cfg, extract('without'))['maps'])


def test_another_making_is_refused(extract, fail_tool, repository, tmp_path):
    extract()
    config = repository / 'configs/reir/reir_shapes.py'
    rest = ['--out', tmp_path / 'features', '--num-workers', 0, '--split', 'train']
    error = fail_tool(TOOL, config, *rest, '--features', 'float16', '--cfg-options', TOTAL)
    assert 'was made in another way (source' in error and 'features float32' in error


SIZES = [(60, 90), (90, 60), (64, 64)]  # height, width
CONFIG = """
_base_ = {base!r}
steps = [dict(type='Resize', scale=(96, 64), keep_ratio=True),
         dict(type='LoadBoxProposals', proposal_file={proposals!r}),
         {{{{_base_.encode}}}}, dict(type='PackGroundingInputs')]
train_dataloader = dict(dataset=dict(_delete_=True, type='GroundingJSONLDataset',
    ann_file={annotations!r}, data_prefix=dict(img={images!r}),
    pipeline=[dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations')] + steps))
"""


@pytest.fixture
def pictures(repository, tmp_path):
    """Config of three pictures of different sizes; two queries each, and the last has no proposals."""
    rng, lines = np.random.default_rng(0), []
    with ProposalWriter(tmp_path / 'proposals', dict(detector='none')) as writer:
        for i, size in enumerate(SIZES):
            mmcv.imwrite(rng.integers(256, size=(*size, 3), dtype=np.uint8), tmp_path / f'{i}.png')
            boxes = rng.random((6, 4)) * 30
            boxes[:, 2:] += boxes[:, :2] + 5
            boxes[0] = [10, 10, size[1], size[0]]  # up to the border
            count = 0 if i == 2 else 6
            numbers = rng.integers(3, size=count)
            writer.add(f'{i}.png', boxes[:count], rng.random(count), numbers, size)
            for query in ('a red circle', 'a small blue square'):
                lines.append(dict(image=f'{i}.png', text=query, bbox=[5, 5, 35, 45]))
    annotations = tmp_path / 'train.jsonl'
    annotations.write_text('\n'.join(map(json.dumps, lines)))
    path = tmp_path / 'pictures.py'
    text = CONFIG.format(
        base=str(repository / 'configs/reir/reir_shapes.py'),
        proposals=str(tmp_path / 'proposals'),
        annotations=str(annotations),
        images=str(tmp_path),
    )
    path.write_text(text)
    return path


def test_pictures_of_different_sizes_one_without_proposals(call_tool, pictures, model, tmp_path):
    """What is cached is what the model makes of a picture alone, whatever its neighbours."""
    args = ['--checkpoint', tmp_path / 'weights.pth', '--num-workers', 0, '--maps', 'float32']
    out = tmp_path / 'features'
    output = call_tool(TOOL, pictures, '--out', out, '--split', 'train', '--device', 'cpu', *args)
    assert '3 pictures with 12 boxes, 0 to 6 each; 1 have none' in output
    cfg = Config.fromfile(pictures)
    live = DATASETS.build(cfg.train_dataloader.dataset)
    load = dict(type='LoadRoIFeatures', feature_file=str(out), maps=True, annotations=True)
    load['proposal_file'] = str(tmp_path / 'proposals')
    cached = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': [load, cfg.encode, PACK]})
    for i in range(6):
        a, b = live[i]['data_samples'], cached[i]['data_samples']
        assert a.img_shape == b.img_shape and a.ori_shape == b.ori_shape
        assert a.scale_factor == pytest.approx(b.scale_factor)
        assert torch.equal(a.proposals.bboxes, b.proposals.bboxes)
        torch.testing.assert_close(a.gt_instances.bboxes, b.gt_instances.bboxes)
    model.refine = 'always'
    model.eval()
    together = model.test_step(pseudo_collate([cached[i] for i in range(6)]))
    for i, sample in enumerate(together):
        (alone,) = model.test_step(pseudo_collate([live[i]]))
        for key in ('bboxes', 'coarse_bboxes', 'fine_bboxes', 'scores'):
            torch.testing.assert_close(
                sample.pred_instances[key], alone.pred_instances[key], atol=1e-4, rtol=1e-5
            )
    assert not together[4].pred_instances.scores.any()
    losses = model.train().loss(
        **model.data_preprocessor(pseudo_collate([*map(live.__getitem__, (4,))]), True)
    )
    assert all(value.isfinite() for value in losses.values())


def test_mistakes_are_named(fail_tool, call_tool, pictures, model, repository, tmp_path):
    rest = ['--out', tmp_path / 'x', '--num-workers', 0, '--split', 'train', '--device', 'cpu']
    transvg = repository / 'configs/transvg/transvg_shapes.py'
    assert 'the pipeline must have LoadBoxProposals' in fail_tool(TOOL, transvg, *rest)
    error = fail_tool(TOOL, pictures, *rest[:4], '--split', 'train', 'val')
    assert 'train and val prepare pictures or proposals in different ways' in error
    state = {k: v for k, v in model.state_dict().items() if not k.startswith('backbone.layer2')}
    torch.save(state, tmp_path / 'half.pth')
    error = fail_tool(TOOL, pictures, *rest, '--checkpoint', tmp_path / 'half.pth')
    assert 'half.pth lacks' in error and 'of the backbone, such as layer2' in error
    assert not (tmp_path / 'x').exists()
