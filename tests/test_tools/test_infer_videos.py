"""tools/infer.py on video files: the same answers as from detections that were stored before."""

import json
import sys

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope


@pytest.fixture(scope='module')
def models(repository, tmp_path_factory):
    """Checkpoints of the detector and of VCMA for Shapes, untrained."""
    folder, paths = tmp_path_factory.mktemp('models'), []
    for name in ('transvg/fcos_shapes', 'vcma/vcma_shapes'):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(Config.fromfile(repository / f'configs/{name}.py').model)
        if hasattr(model, 'bbox_head'):
            model.bbox_head.conv_cls.bias.data.zero_()
        paths.append(str(folder / f'{model.__class__.__name__}.pth'))
        torch.save(dict(state_dict=model.state_dict()), paths[-1])
    return paths


def test_same_answers_as_from_stored_detections(
    call_tool, repository, models, tmp_path, monkeypatch
):
    pytest.importorskip('av')
    export = ['--out', tmp_path, '--num', 2, '--split', 'val', '--num-frames', 16]
    call_tool('misc/export_shapes_video.py', *export)
    cfg = Config.fromfile(repository / 'configs/vcma/vcma_shapes.py')
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[0].num_frames = 7
    pipeline[1].region_file = str(tmp_path / 'regions')
    cfg.test_dataloader.dataset = dict(
        type='VidSTGDataset',
        data_root=str(tmp_path),
        ann_file='val_annotations.json',
        data_prefix=dict(video='video', annotation='annotation'),
        test_mode=True,
        pipeline=pipeline,
    )
    config = tmp_path / 'videos.py'
    cfg.dump(config)
    detector = repository / 'configs/transvg/fcos_shapes.py', models[0]
    call_tool(
        *('analysis_tools/extract_video_regions.py', *detector, config, '--split', 'test'),
        *('--out', tmp_path / 'regions', '--features', 'float32', '--device', 'cpu'),
        *('--num-workers', 0),
    )
    meta = json.loads((tmp_path / 'regions/meta.json').read_text())
    assert meta['roi_size'] == 3  # as the config says
    dataset, model = DATASETS.build(cfg.test_dataloader.dataset), MODELS.build(cfg.model)
    model.load_state_dict(torch.load(models[1])['state_dict'])
    model.eval()
    for sample in dataset:
        with torch.no_grad():
            (stored,) = model.test_step(pseudo_collate([sample]))
        output = call_tool(
            *('infer.py', config, models[1], '--videos', stored.video_path, '--device', 'cpu'),
            *('--texts', *stored.queries, '--detector', *detector, '--out-dir', tmp_path / 'out'),
        )
        live = json.loads((tmp_path / 'out/predictions.json').read_text(encoding='utf-8'))
        assert [answer['query'] for answer in live] == list(stored.queries)
        for answer, tube in zip(live, stored.pred_tubes, strict=True):
            assert answer['span'] == list(tube['span'])
            assert answer['score'] == pytest.approx(tube['score'], abs=1e-5)
            expected = tube['bboxes'][slice(*tube['span'])]
            np.testing.assert_allclose(answer['bboxes'], expected, atol=0.06)
            assert f'{answer["query"]!r} -> ' in output and answer['clip'] in output
    # test.py, from the stored ones as well, writes what it found of every sentence.
    monkeypatch.setenv('LOCAL_RANK', '0')
    out = tmp_path / 'dump.json'
    call_tool('test.py', config, models[1], '--out', out, '--work-dir', tmp_path / 'test')
    dumped = json.loads(out.read_text(encoding='utf-8'))['samples']
    assert [s['queries'] for s in dumped] == [list(s['data_samples'].queries) for s in dataset]


def test_mistakes_are_named(
    call_tool, fail_tool, repository, models, scenes, tmp_path, monkeypatch
):
    detector = ('--detector', repository / 'configs/transvg/fcos_shapes.py', models[0])
    video = ('--videos', scenes[0])  # a picture
    common = ('infer.py', 'vcma_shapes', models[1], '--out-dir', tmp_path, '--texts', 'a circle')
    assert 'give the detector that it was trained with' in fail_tool(*common, *video)
    assert 'is of a model of videos; give --videos' in fail_tool(*common, '--images', scenes[0])
    of_pictures = ('infer.py', 'transvg_shapes', models[1], '--texts', 'a circle')
    assert 'transvg_shapes.py is of a model of pictures' in fail_tool(*of_pictures, *video)
    empty = fail_tool('infer.py', 'vcma_shapes', models[1], *video, '--texts', ' ', *detector)
    assert "text ' ' of video 0 is empty" in empty
    with pytest.raises(SystemExit):
        call_tool(*common, *video, '--images', scenes[0])
    for option in ('--show', '--show-dir=pictures'):
        error = fail_tool('test.py', 'vcma_shapes', models[1], option)
        assert 'vcma_shapes.py is of a model of videos; tools/infer.py --videos draws' in error
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'av', None)
        assert 'pip install av' in fail_tool(*common, *video, *detector)


@pytest.mark.parametrize(
    ('source', 'option', 'other'),
    [
        ('--videos', '--show', '--images'),
        ('--videos', '--batch-size=1', '--images'),
        ('--images', '--fps=25', '--videos'),
    ],
)
def test_options_of_the_other_source_are_refused(call_tool, capsys, source, option, other):
    with pytest.raises(SystemExit) as caught:  # before the config is looked for
        call_tool('infer.py', 'no_config', 'none.pth', '--texts', 'a dog', source, 'a', option)
    assert caught.value.code == 2
    name = option.partition('=')[0]
    assert f'error: {name} goes with {other} only; leave it out' in capsys.readouterr().err
