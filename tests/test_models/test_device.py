"""A tensor that a forward pass makes on the CPU meets those of the GPU, and fails."""

import pytest
from mmdet.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate

from mmvg.apis import load_config


@pytest.mark.parametrize('name', ['transvg_shapes', 'qrnet_shapes', 'reir_shapes'])
def test_training_and_answering_stay_on_the_gpu(fake_gpu, name):
    cfg = load_config(name)
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, num_scenes=2))
    model = MODELS.build(cfg.model).train()
    if name.startswith('reir'):
        model.set_iteration(model.refine_start + 1)
    batch = model.data_preprocessor(pseudo_collate([dataset[i] for i in range(2)]), True)
    with fake_gpu.mode:
        model, inputs, samples = map(
            fake_gpu.move, (model, *map(batch.get, ('inputs', 'data_samples')))
        )
        losses = model(inputs, samples, mode='loss')
        assert losses and {loss.device for loss in losses.values()} == {fake_gpu.device}
        found = model.eval()(inputs, samples, mode='predict')
    assert {sample.pred_instances.bboxes.device for sample in found} == {fake_gpu.device}
