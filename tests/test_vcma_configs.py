"""VCMA's configs learn in all phases, stop, go on and answer; nothing of the truth is used in it."""

import contextlib
import copy
import inspect
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner

from mmvg.apis import load_config
from mmvg.datasets import ShapesVideoDataset
from mmvg.datasets.video_regions import VideoRegionWriter
from mmvg.models.heads.video_tube_head import VideoTubeHead
from mmvg.structures.regions import Regions

ROOT = Path(__file__).parents[1]
CONFIGS = ['shapes', 'r101_vidstg', 'r101_hcstvg']
RECIPES = dict(r101_vidstg=2262, r101_hcstvg=281)  # iterations per epoch: 36,202 and 4,500 by 16
WARMUP, PHASE, ITERS = 4, 2, 12  # two rounds
WIDTH = 8  # of the features in the recipes' region files
TRUTH = 'temporal_gt', 'used_relation', 'subject/objects', 'target_id', 'type'
TRUTH += 'bbox', 'st_frame', 'st_time', 'ed_time'


@pytest.fixture(autouse=True)
def folder(data, monkeypatch):
    """The recipes' data/ lies in the working folder."""
    monkeypatch.chdir(data)
    return data


def load(name):
    """A config at a size that trains in a second: few videos and iterations, narrow networks."""
    cfg = load_config(f'vcma_{name}')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=4, num_workers=0)
        loader.pop('persistent_workers', None)
        steps = {step.type: step for step in loader.dataset.pipeline}
        steps['SampleFrames'].num_frames = 6
        if name == 'shapes':
            loader.dataset.num_videos = 6
            steps['LoadTubes'].region_file = 'regions'
    head = cfg.model.tube_head
    head.update(embed_dims=16, relation_dims=8)
    if name != 'shapes':
        head.update(text_dims=32, tube_dims=WIDTH + 5, frame_dims=WIDTH)
        cfg.model.language_model.tokenizer = 'builtin:shapes'
        cfg.model.language_model.bert = dict(
            pretrained=None,
            config=dict(
                vocab_size=100,
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
            ),
        )
    cfg.train_cfg.update(max_iters=ITERS, val_begin=WARMUP + 1, val_interval=2 * PHASE)
    cfg.custom_hooks[0].update(warmup_iters=WARMUP, e_iters=PHASE, m_iters=PHASE)
    cfg.default_hooks.checkpoint.interval = 1
    cfg.optim_wrapper.optimizer.lr = 1e-3
    cfg.log_level = 'ERROR'
    return cfg


class Interrupt(Hook):
    """Ends a run in the middle of a round; its last checkpoint is that of the iteration before."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == WARMUP + PHASE:  # of the first M-phase
            raise InterruptedError


def run(cfg, work_dir, interrupt=False):
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{work_dir}_{interrupt}'.replace('/', '_')
    # Otherwise Runner.test would take the last checkpoint for the one to go on from.
    cfg.resume = (work_dir / 'last_checkpoint').exists()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Record())
    if interrupt:
        runner.register_hook(Interrupt())
        with pytest.raises(InterruptedError):
            runner.train()
    else:
        runner.train()
    return runner


def final_state(work_dir):
    return read_checkpoint((work_dir / 'last_checkpoint').read_text())


read_checkpoint = CheckpointLoader.load_checkpoint  # reads what mmengine stores


class Record(Hook):
    """Notes what every iteration gave; the log would also show what other phases gave last."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        values = {name: float(value) for name, value in outputs.items()}
        with open(Path(runner.work_dir) / 'losses.jsonl', 'a') as f:
            f.write(json.dumps(dict(values, iter=runner.iter)) + '\n')


def logged(work_dir):
    """What iterations gave, by their number from 0; of repeated ones the last."""
    lines = map(json.loads, (Path(work_dir) / 'losses.jsonl').read_text().splitlines())
    return {line.pop('iter'): line for line in lines}


def assert_same_run(one, other):
    first, second = final_state(one), final_state(other)
    assert first['meta']['iter'] == second['meta']['iter'] == ITERS
    for name, tensor in first['state_dict'].items():
        assert torch.equal(tensor, second['state_dict'][name]), name
    for index, state in first['optimizer']['state'].items():
        for key, tensor in state.items():
            assert torch.equal(tensor, second['optimizer']['state'][index][key]), (index, key)


# --- data in the recipes' layouts


def write_regions(path, records):
    """The true boxes of generated videos, with random features of every shape."""
    with VideoRegionWriter(path, dict(detector='none')) as writer:
        for name, record in records.items():
            rng = np.random.default_rng(len(name) + record['num_frames'])
            features = rng.standard_normal((len(record['tracks']), WIDTH)).astype(np.float32)
            frames = np.linspace(0, record['num_frames'] - 1, 6).round().astype(int)
            for frame in frames.tolist():
                boxes = record['tracks'][:, frame]
                writer.add_frame(
                    *(name, frame),
                    Regions(
                        boxes,
                        np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
                        np.zeros(len(boxes), np.int64),
                        features,
                        rng.standard_normal(WIDTH).astype(np.float32),
                        (record['height'], record['width']),
                    ),
                )


def generated(split):
    dataset = ShapesVideoDataset(split=split, num_videos=6, with_truth=True, pipeline=[])
    return {r['video_id']: r for r in (dataset.get_data_info(i) for i in range(6))}


def hcstvg_entry(record):
    tube = record['tubes'][0]
    boxes = np.hstack([tube['bboxes'][:, :2], tube['bboxes'][:, 2:] - tube['bboxes'][:, :2]])
    return dict(
        bbox=boxes.tolist(),
        st_time=0.0,
        ed_time=1.0,
        img_num=record['num_frames'],
        caption=record['queries'][0],
        width=record['width'],
        height=record['height'],
        st_frame=tube['span'][0] + 1,
    )


def write_layouts(root):
    export = runpy.run_path(str(ROOT / 'tools/misc/export_shapes_video.py'))
    vidstg, hcstvg = root / 'data/vidstg', root / 'data/hc-stvg'
    (vidstg / 'vidor/annotation').mkdir(parents=True)
    hcstvg.mkdir()
    videos = {}
    for split in ('train', 'val', 'test'):
        records = generated(split)
        videos.update(records)
        entries = [export['sentence_entry'](r) for r in records.values()]
        (vidstg / f'{split}_annotations.json').write_text(json.dumps(entries))
        for name, record in records.items():
            boxes = json.dumps(export['box_file'](record))
            (vidstg / f'vidor/annotation/{name}.json').write_text(boxes)
        entries = {f'{name}.mp4': hcstvg_entry(r) for name, r in records.items()}
        (hcstvg / f'{split}.json').write_text(json.dumps(entries))
    write_regions(vidstg / 'regions', videos)
    write_regions(hcstvg / 'regions', {f'{k}.mp4': v for k, v in videos.items()})


@pytest.fixture(scope='module')
def data(call_tool, tmp_path_factory):
    """What the configs read: by the tools with the configs' names, but for the recipes' regions."""
    root = tmp_path_factory.mktemp('vcma')
    write_layouts(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name, folder in (('r101_vidstg', 'vidstg'), ('r101_hcstvg', 'hc-stvg')):
            out = f'data/{folder}/predicates.json'
            call_tool('misc/build_predicates.py', f'vcma_{name}', '--out', out)
        load('shapes').dump('shapes.py')
        call_tool(
            *(
                'analysis_tools/extract_video_regions.py',
                'transvg/fcos_shapes',
                'none',
                'shapes.py',
            ),
            *('--out', 'regions', '--score-thr', 1e-3, '--max-boxes', 5, '--roi-size', 3),
            *('--num-workers', 0, '--device', 'cpu', '--batch-size', 32),
        )
    return root


@pytest.fixture(scope='module')
def whole(data):
    """Every config, trained once without a break: its runner and its folder."""
    done = {}

    def train(name):
        if name not in done:
            work_dir = data / f'whole_{name}'
            done[name] = run(load(name), work_dir), work_dir
        return done[name]

    return train


# --- tests


@pytest.mark.parametrize('name', CONFIGS)
def test_every_config_learns_in_all_phases_validates_and_keeps_the_best(name, whole):
    runner, work_dir = whole(name)
    losses = logged(work_dir)
    kinds = [set(k for k in losses[i] if k.startswith('loss_')) for i in range(ITERS)]
    assert kinds[:WARMUP] == [{'loss_mil_theta', 'loss_mil_phi'}] * WARMUP
    e_phase = [{'loss_e', 'loss_mil_phi'}] * PHASE
    m_phase = [{'loss_prior', 'loss_relation', 'loss_mil_theta'}] * PHASE
    assert kinds[WARMUP:] == (e_phase + m_phase) * 2
    assert all(np.isfinite(value) for line in losses.values() for value in line.values())

    info = runner.message_hub.runtime_info
    assert sorted(info['em_history']) == [8, 12]
    best = read_checkpoint(info['best_ckpt'])['state_dict']
    for key, tensor in runner.model.state_dict().items():
        assert torch.equal(tensor, best[key]), key
    found = runner.test()
    kinds = ['declarative'] if 'hcstvg' in name else ['declarative', 'interrogative']
    for kind in kinds:
        for answer in ('', 'p/', 'q/'):
            assert 0 <= found[f'test/{answer}{kind}/m_vIoU'] <= 100
        assert found[f'test/{kind}/m_vIoU'] == found[f'test/p/{kind}/m_vIoU']
        assert found[f'test/{kind}/oracle_tube/m_vIoU'] >= 0


@pytest.mark.parametrize('name', ['shapes', 'r101_vidstg'])
def test_a_run_broken_off_within_a_round_ends_as_an_unbroken_one(name, whole, tmp_path):
    """Within a pass of the data no random number is drawn, so that it holds bit for bit."""
    runner, work_dir = whole(name)
    run(load(name), tmp_path / 'broken', interrupt=True)
    assert final_state(tmp_path / 'broken')['meta']['iter'] == WARMUP + PHASE
    resumed = run(load(name), tmp_path / 'broken')
    assert_same_run(work_dir, tmp_path / 'broken')
    assert logged(work_dir) == logged(tmp_path / 'broken')
    info, other = (r.message_hub.runtime_info for r in (runner, resumed))
    assert info['em_history'] == other['em_history'] and info['best_score'] == other['best_score']
    assert Path(info['best_ckpt']).name == Path(other['best_ckpt']).name
    for key, tensor in runner.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[key]), key


@TRANSFORMS.register_module(force=True)
class SpoilTruth(BaseTransform):
    """Puts garbage in place of all that is true."""

    def transform(self, results):
        assert 'tubes' in results
        for tube in results['tubes']:
            tube.update(span=(-5, -9), bboxes=np.full((1, 4), np.nan), track=-1, predicate='lie')
        results.update(tracks=np.full((1, 2, 4), np.nan), labels=np.array([99]))
        return results


def test_the_truth_of_generated_videos_changes_nothing(whole, tmp_path):
    cfg = load('shapes')
    dataset = cfg.train_dataloader.dataset
    dataset.with_truth = True
    dataset.pipeline = [dict(type='SpoilTruth'), *dataset.pipeline]
    run(cfg, tmp_path)
    assert_same_run(whole('shapes')[1], tmp_path)
    assert logged(whole('shapes')[1]) == logged(tmp_path)


def without_truth(value):
    if isinstance(value, dict):
        return {k: without_truth(v) for k, v in value.items() if k not in TRUTH}
    return [without_truth(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize('name', RECIPES)
def test_files_without_the_truth_train_the_same_weights(name, whole, folder, tmp_path):
    """Fields deleted, and no box file of a training video."""
    cfg = load(name)
    dataset = cfg.train_dataloader.dataset
    root = Path(dataset.data_root)
    entries = json.loads((root / dataset.ann_file).read_text())
    bare = without_truth(entries)
    assert str(bare) != str(entries) and 'tid' not in str(bare) and 'bbox' not in str(bare)
    (root / 'bare.json').write_text(json.dumps(bare))
    dataset.ann_file = 'bare.json'
    dataset.data_prefix.pop('annotation', None)
    run(cfg, tmp_path)
    assert_same_run(whole(name)[1], tmp_path)
    assert logged(whole(name)[1]) == logged(tmp_path)


@pytest.mark.parametrize('name', RECIPES)
def test_real_sentences_train(name, samples, tmp_path):
    """The official files' records; their videos are not there, so nor are their regions."""
    cfg = load(name)
    dataset = cfg.train_dataloader.dataset
    folder, file = ('vidstg', 'annotations/val_annotations.json')
    if 'hcstvg' in name:
        folder, file = ('hc_stvg', 'test_2_entries.json')
    entries = json.loads((samples / folder / file).read_text(encoding='utf-8'))
    if isinstance(entries, list):
        entries = entries[:40:10]
    (tmp_path / 'train.json').write_text(json.dumps(entries))
    dataset.update(data_root=str(tmp_path), ann_file='train.json')
    source = DATASETS.build({**dataset, 'pipeline': []})
    sample = TRANSFORMS.build(dataset.pipeline[0])
    with VideoRegionWriter(tmp_path / 'regions', dict(detector='none')) as writer:
        for index in range(len(source)):
            record = source.get_data_info(index)
            for frame in sample(dict(record))['frame_ids'].tolist():
                add_noise(writer, record, frame)
    cfg.train_dataloader.batch_size = len(source)
    dataset.pipeline[1].region_file = str(tmp_path / 'regions')
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.train_cfg.max_iters = WARMUP + 2 * PHASE
    cfg.default_hooks.checkpoint.save_best = None
    run(cfg, tmp_path / 'run')
    losses = logged(tmp_path / 'run')
    assert len(losses) == WARMUP + 2 * PHASE
    assert all(np.isfinite(value) for line in losses.values() for value in line.values())
    assert losses[WARMUP + 2 * PHASE - 1]['elbo'] < 0  # beta is no longer 0


def add_noise(writer, record, frame):
    rng = np.random.default_rng(frame)
    corner = rng.uniform(0, 100, (3, 2))
    arrays = np.hstack([corner, corner + 50]), np.linspace(0.9, 0.5, 3), np.zeros(3, np.int64)
    features = rng.standard_normal((4, WIDTH)).astype(np.float32)
    with contextlib.suppress(ValueError):  # segments of one video may share frames
        writer.add_frame(
            *(record['video_id'], frame),
            Regions(
                *(arrays[0].astype(np.float32), arrays[1].astype(np.float32), arrays[2]),
                *(features[:3], features[3], (record['height'], record['width'])),
            ),
        )


@pytest.mark.parametrize(('name', 'epoch'), RECIPES.items())
def test_recipe_is_that_of_the_specification(name, epoch):
    """Spec 1.4, 1.6, 1.8 and 2.4."""
    cfg = Config.fromfile(ROOT / f'configs/vcma/vcma_{name}.py')
    (hook,) = cfg.custom_hooks
    assert hook.type == 'VariationalEMHook' and hook.warmup_iters == 2 * epoch
    assert hook.e_iters + hook.m_iters == epoch and abs(hook.e_iters - hook.m_iters) <= 1
    assert hook.get('ramp_rounds', 2) == 2 and hook.get('min_delta', 0.1) == 0.1  # in percent
    assert hook.get('stop', True)
    assert (cfg.train_cfg.type, cfg.train_cfg.val_interval) == ('ResumableIterTrainLoop', epoch)
    assert (cfg.train_cfg.max_iters - hook.warmup_iters) % epoch == 0
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.interval, checkpoint.by_epoch) == (epoch, False)
    assert checkpoint.save_best == hook.monitor == 'val/declarative/m_vIoU'
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4)
    assert cfg.param_scheduler is None and cfg.find_unused_parameters
    loader = cfg.train_dataloader
    assert loader.batch_size == 16 and loader.drop_last and loader.sampler.type == 'InfiniteSampler'
    assert not loader.dataset.get('test_mode') and 'with_truth' not in loader.dataset
    for part in (loader.dataset, cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        steps = {step.type: step for step in part.pipeline}
        assert list(steps) == ['SampleFrames', 'LoadTubes', 'ParseQueries', 'PackVideoInputs']
        sample, tubes = steps['SampleFrames'], steps['LoadTubes']
        assert (sample.protocol, sample.num_frames, tubes.num_clips) == ('uniform', 64, 32)
        linker = tubes.linker
        assert (linker.alpha, linker.max_tubes) == (0.5, 20)
        assert linker.get('method', 'viterbi') == 'viterbi' and 'score_weight' not in linker
        assert steps['ParseQueries'].predicates == cfg.model.tube_head.predicates
    assert cfg.model.linker == linker and cfg.model.num_clips == 32
    head = cfg.model.tube_head
    assert head.get('sweeps', 3) == 3 and head.get('tau', 0.07) == 0.07
    defaults = dict(beta_mode='likelihood', e_start='phi', kl='forward', m_source='phi', tied=True)
    defaults.update(same_tube=-10.0, temporal='free')
    ours = dict(own_motion=False, relation_context=0, posterior_clip_tubes=False)
    ours.update(same_tube_always=False, event_share=None)
    known = inspect.signature(VideoTubeHead).parameters
    for key, value in {**defaults, **ours}.items():
        assert head.get(key, value) == value == known[key].default, key
    assert (cfg.model.get('source', 'p'), cfg.model.get('span', 'likeliest')) == ('p', 'likeliest')
    assert not cfg.default_hooks.logger.log_metric_by_epoch  # one epoch is all of the training
    metric = cfg.test_evaluator
    assert metric.answers == dict(p='p_tubes', q='q_tubes')
    assert metric.get('dataset', 'vidstg') == ('hcstvg' if 'hcstvg' in name else 'vidstg')


@pytest.mark.parametrize('name', ['vidstg', 'hcstvg'])
def test_all_files_of_a_recipe_may_lie_elsewhere(name, monkeypatch):
    monkeypatch.setenv(f'MMVG_{name.upper()}_ROOT', '/elsewhere')
    cfg = load_config(f'vcma_r101_{name}')
    assert cfg.model.tube_head.predicates == '/elsewhere/predicates.json'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        _, tubes, parse, _ = loader.dataset.pipeline
        assert loader.dataset.data_root == '/elsewhere/'
        assert tubes.region_file == '/elsewhere/regions'
        assert parse.predicates == '/elsewhere/predicates.json'


def test_schedule_of_shapes_validates_after_every_round():
    cfg = Config.fromfile(ROOT / 'configs/vcma/vcma_shapes.py')
    (hook,) = cfg.custom_hooks
    rounds = hook.e_iters + hook.m_iters
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == rounds
    assert hook.warmup_iters % rounds == 0
    assert (cfg.train_cfg.max_iters - hook.warmup_iters) % rounds == 0
    assert hook.monitor == cfg.default_hooks.checkpoint.save_best
    assert cfg.find_unused_parameters
