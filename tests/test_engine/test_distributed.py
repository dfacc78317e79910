"""Several processes train and evaluate as one does."""

import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner

import mmvg  # noqa: F401
from mmvg.apis import set_up_distribution

load_checkpoint = CheckpointLoader.load_checkpoint  # reads what mmengine stores
CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'transvg' / 'transvg_shapes.py'
GLOBAL_BATCH, BATCHES, EPOCHS = 4, 3, 2


TEACHER = dict(
    type='OpenCLIPTeacher',
    config=dict(
        embed_dim=64,
        vision_cfg=dict(image_size=32, patch_size=16, width=32, layers=1, head_width=16),
        text_cfg=dict(
            context_length=20, vocab_size=64, width=32, heads=2, layers=1, pool_type='eos', eos_id=3
        ),
    ),
    pretrained=None,
    tokenizer='builtin:shapes',
    trainable=True,
)


def tiny_config(work_dir, world_size, distil=False):
    """The Shapes default with few scenes; batch statistics off, as they differ with the batch."""
    cfg = Config.fromfile(CONFIG)
    if distil:
        cfg.default_hooks.distillation = dict(
            type='CLIPDistillationHook', teacher=TEACHER, teacher_lr=0.1
        )
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'ERROR'
    cfg.model.backbone.norm_eval = True
    cfg.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS + 1)
    cfg.train_dataloader.update(
        batch_size=GLOBAL_BATCH // world_size, num_workers=0, persistent_workers=False
    )
    cfg.train_dataloader.dataset.num_scenes = GLOBAL_BATCH * BATCHES
    cfg.default_hooks.checkpoint.save_best = None
    cfg.val_dataloader.update(batch_size=2, num_workers=0)
    # Plain SGD: Adam would blow up rounding errors of gradients that are nearly 0.
    cfg.optim_wrapper = dict(
        constructor='GroupOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=0.2, momentum=0.9),
        paramwise_cfg=dict(groups=dict(visual=dict(prefixes=['backbone'], lr=0.1))),
    )
    cfg.param_scheduler = None
    return cfg


def start_runner(cfg, env):
    torch.set_num_threads(1)
    if env['WORLD_SIZE'] != '1':
        os.environ.update(env)
        set_up_distribution(cfg, 'pytorch')
    return Runner.from_cfg(cfg)


def train(work_dir, distil, env):
    start_runner(tiny_config(work_dir, int(env['WORLD_SIZE']), distil), env).train()


def evaluate(work_dir, sizes, env):
    """Metrics for several data set sizes, written by rank 0."""
    cfg = tiny_config(work_dir, int(env['WORLD_SIZE']))
    runner = start_runner(cfg, env)
    results = []
    for size in sizes:
        cfg.val_dataloader.dataset.num_scenes = size
        runner._val_dataloader, runner._val_loop = cfg.val_dataloader, cfg.val_cfg
        results.append({key: float(value) for key, value in runner.val().items()})
    if env['RANK'] == '0':
        (work_dir / 'metrics.json').write_text(json.dumps(results))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='compares processes on the CPU')
@pytest.mark.parametrize('distil', [False, True])
def test_two_processes_train_as_one(tmp_path, launch, distil):
    checkpoints = []
    for world_size in (1, 2):
        work_dir = tmp_path / str(world_size)
        launch(world_size, train, work_dir, distil)
        checkpoints.append(load_checkpoint(str(work_dir / f'epoch_{EPOCHS}.pth')))
    one, two = ({**c['state_dict'], **c.get('distillation_teacher', {})} for c in checkpoints)
    assert one.keys() == two.keys() and ('clip.logit_scale' in one) == distil
    for name, tensor in one.items():
        torch.testing.assert_close(
            two[name], tensor, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f'{name}: {text}'
        )
    # Training moved the weights by far more than the tolerance.
    initial = Runner.from_cfg(tiny_config(tmp_path / 'initial', 1)).model.state_dict()
    for name in ('bbox_head.text_proj.weight', 'bbox_head.box_mlp.layers.0.weight'):
        assert (one[name] - initial[name]).abs().max() > 1e-3, name


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='compares processes on the CPU')
def test_metrics_do_not_depend_on_the_number_of_processes(tmp_path, launch):
    """7 and 11 scenes are divisible neither by 2 nor by 3; no scene may count twice."""
    metrics = []
    for world_size in (1, 2, 3):
        work_dir = tmp_path / str(world_size)
        launch(world_size, evaluate, work_dir, (7, 11))
        metrics.append(json.loads((work_dir / 'metrics.json').read_text()))
    assert metrics[0] == metrics[1] == metrics[2]
    assert metrics[0][0] != metrics[0][1] and 'val/miou' in metrics[0][0]
