from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, HOOKS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmvg.engine.hooks import query_visualization_hook as module
from mmvg.engine.hooks.query_visualization_hook import _original_image


def make_hook(**kwargs):
    return HOOKS.build(dict(type='QueryVisualizationHook', draw=True, **kwargs))


def make_runner(num_samples: int) -> SimpleNamespace:
    return SimpleNamespace(iter=7, test_dataloader=SimpleNamespace(dataset=[None] * num_samples))


def make_batch(size: int, img_path: str = 'images/dog.jpg') -> tuple[dict, list[DetDataSample]]:
    outputs = []
    for _ in range(size):
        sample = DetDataSample(
            metainfo=dict(queries=['the dog'], img_path=img_path, img_id=1, ori_shape=(32, 48))
        )
        sample.pred_instances = InstanceData(bboxes=torch.tensor([[2.0, 3, 20, 30]]))
        outputs.append(sample)
    return dict(inputs=[torch.zeros(3, 32, 48, dtype=torch.uint8)] * size), outputs


def run_test(
    hook, num_samples: int, batch_sizes: list[int], img_path: str = 'images/dog.jpg'
) -> None:
    runner = make_runner(num_samples)
    hook.before_test_epoch(runner)
    for batch_idx, size in enumerate(batch_sizes):
        hook.after_test_iter(runner, batch_idx, *make_batch(size, img_path))


def test_samples_of_one_image_get_a_file_each(tmp_path):
    run_test(make_hook(test_out_dir=str(tmp_path)), 5, [2, 2, 1])
    assert sorted(p.name for p in tmp_path.iterdir()) == [f'{i:06d}_dog.jpg' for i in range(5)]


@pytest.mark.parametrize(('world_size', 'num_samples'), [(2, 5), (3, 7)])
def test_processes_draw_each_sample_once(tmp_path, monkeypatch, world_size, num_samples):
    written = []
    per_rank = -(-num_samples // world_size)  # the sampler fills up the last round
    for rank in range(world_size):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, world_size))
        run_test(make_hook(test_out_dir=str(tmp_path / str(rank))), num_samples, [1] * per_rank)
        written += [p.name for p in (tmp_path / str(rank)).iterdir()]
    assert sorted(written) == [f'{i:06d}_dog.jpg' for i in range(num_samples)]


def test_max_images_and_draw(tmp_path):
    run_test(make_hook(test_out_dir=str(tmp_path / 'a'), max_images=3), 5, [2, 2, 1])
    assert len(list((tmp_path / 'a').iterdir())) == 3
    off = HOOKS.build(dict(type='QueryVisualizationHook', test_out_dir=str(tmp_path / 'b')))
    run_test(off, 5, [5])
    assert not (tmp_path / 'b').exists()


def test_strange_names_become_file_names(tmp_path):
    hook = make_hook(test_out_dir=str(tmp_path))
    run_test(hook, 1, [1], 'http://x/y z?ü.jpg')
    run_test(hook, 1, [1], '')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['000000_1.jpg', '000000_y-z-ü.jpg']


def test_validation_draws_at_the_interval(monkeypatch):
    calls = []
    visualizer = SimpleNamespace(add_datasample=lambda name, *args, **kw: calls.append((name, kw)))
    monkeypatch.setattr(module.Visualizer, 'get_current_instance', lambda: visualizer)
    hook = make_hook(interval=2)
    for batch_idx in range(5):
        hook.after_val_iter(make_runner(10), batch_idx, *make_batch(2))
    assert [name for name, _ in calls] == ['val_000000_dog', 'val_000002_dog', 'val_000004_dog']
    assert {kw['step'] for _, kw in calls} == {7}


def test_image_is_read_from_its_file(tmp_path):
    picture = np.random.RandomState(0).randint(0, 256, (32, 48, 3), dtype=np.uint8)
    path = str(tmp_path / 'picture.png')
    mmcv.imwrite(picture, path)
    batch, (sample,) = make_batch(1, path)
    np.testing.assert_array_equal(_original_image(batch, 0, sample), picture[..., ::-1])
    sample.set_metainfo(dict(ori_shape=(16, 24)))  # an orientation that the loader ignored
    assert _original_image(batch, 0, sample).shape == (16, 24, 3)


@pytest.mark.parametrize('flip', [False, True])
def test_generated_image_is_cut_out_of_the_input(flip):
    picture = np.random.RandomState(0).randint(0, 256, (32, 48, 3), dtype=np.uint8)
    canvas = np.zeros((64, 64, 3), dtype=np.uint8)
    canvas[16:48, 8:56] = picture[:, ::-1] if flip else picture
    matrix = np.array([[-1.0 if flip else 1, 0, 56 if flip else 8], [0, 1, 16], [0, 0, 1]])
    _, (sample,) = make_batch(1, 'generated')
    sample.set_metainfo(dict(homography_matrix=matrix))
    inputs = [torch.from_numpy(canvas).permute(2, 0, 1)]
    restored = _original_image(dict(inputs=inputs), 0, sample)
    np.testing.assert_array_equal(restored, picture[..., ::-1])
    # the same as second view of test-time augmentation
    sample.set_metainfo(dict(tta_view=1))
    restored = _original_image(dict(inputs=[[torch.zeros(3, 8, 8)], inputs]), 0, sample)
    np.testing.assert_array_equal(restored, picture[..., ::-1])


def test_videos_are_refused_before_any_is_seen():
    dataset = DATASETS.build(dict(type='ShapesVideoDataset', num_videos=1, pipeline=[]))
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    for check in (
        lambda: make_hook().check_data(dataset),
        lambda: make_hook().before_test_epoch(runner),
    ):
        with pytest.raises(ValueError, match='draws pictures, .*tools/infer.py --videos'):
            check()
    HOOKS.build(dict(type='QueryVisualizationHook')).check_data(dataset)  # draws nothing
