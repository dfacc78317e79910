"""A tensor that a forward pass makes on the CPU meets those of the GPU, and fails.

Mixed precision: losses and boxes are float32. Not every mix of types is noticed.
"""

from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import DATASETS, HOOKS, MODELS
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from torch.optim import SGD

from mmvg.apis import load_config
from mmvg.models.teachers import open_clip


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize('name', ['transvg_shapes', 'qrnet_shapes', 'reir_shapes'])
def test_training_and_answering_stay_on_the_gpu(fake_gpu, name, amp):
    cfg = load_config(name)
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, num_scenes=2))
    model = MODELS.build(cfg.model).train()
    if name.startswith('reir'):
        model.set_iteration(model.refine_start + 1)
    batch = model.data_preprocessor(pseudo_collate([dataset[i] for i in range(2)]), True)
    with fake_gpu.on(amp):
        model, inputs, samples = map(
            fake_gpu.move, (model, *map(batch.get, ('inputs', 'data_samples')))
        )
        losses = model(inputs, samples, mode='loss')
        assert {(loss.device, loss.dtype) for loss in losses.values()} == {
            (fake_gpu.device, torch.float32)
        }
        found = model.eval()(inputs, samples, mode='predict')
    boxes = [sample.pred_instances.bboxes for sample in found]
    assert {(b.device, b.dtype) for b in boxes} == {(fake_gpu.device, torch.float32)}


@pytest.mark.parametrize('amp', [False, True])
def test_distillation_stays_on_the_gpu(fake_gpu, monkeypatch, amp):
    cfg = load_config('epmvg/transvg_shapes')
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, num_scenes=2))
    model = MODELS.build(cfg.model).train()
    hook = HOOKS.build(cfg.default_hooks.distillation)
    optimizer = OptimWrapper(SGD(model.parameters(), 0.1))
    runner = SimpleNamespace(model=model, optim_wrapper=optimizer, param_schedulers=[])
    hook.before_run(runner)
    # Where the padding of a picture ends, and what a cache keeps, are numbers.
    monkeypatch.setattr(open_clip, '_content_boxes', lambda mask: [[0, 0, 64, 64]] * len(mask))
    hook.teacher.cache = None
    batch = model.data_preprocessor(pseudo_collate([dataset[i] for i in range(2)]), True)
    with fake_gpu.on(amp):
        fake_gpu.move(hook.teacher)
        model, inputs, samples = map(
            fake_gpu.move, (model, *map(batch.get, ('inputs', 'data_samples')))
        )
        hook.before_train(runner)
        losses = model(inputs=inputs, data_samples=samples, mode='loss')
    assert {'loss_distill_image', 'loss_distill_text'} < set(losses)
    assert {loss.device for loss in losses.values()} == {fake_gpu.device}
