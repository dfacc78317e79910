import argparse
import json
import os
import re
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn import Linear

from mmvg.apis import check_together, load_config


def figures(output: str) -> dict[str, float]:
    """``name: number`` pairs of a log line or of eval_predictions.py."""
    found = re.findall(r'(\S*(?:acc@[\d.]+|miou|point_it)): ([\d.]+)', output)
    return {name: float(value) for name, value in found}


@pytest.fixture(scope='module')
def tested(trained, run_tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp('test')
    output = run_tool(
        *('test.py', trained.config, trained.checkpoint, '--work-dir', folder / 'log'),
        *('--out', folder / 'predictions.json', '--show-dir', folder / 'pictures'),
    )
    return folder, output


def test_train_leaves_a_checkpoint_and_the_config(trained):
    assert 'val/acc@0.5' in trained.output
    assert trained.checkpoint.is_file()
    assert (trained.work_dir / 'last_checkpoint').read_text() == str(trained.checkpoint)
    assert (trained.work_dir / 'tiny.py').is_file()
    assert trained.output.count('load_from is not set') == 1


def test_train_resumes_from_the_work_dir(trained, run_tool, tmp_path):
    for name in ('epoch_1.pth', 'last_checkpoint'):
        (tmp_path / name).write_bytes((trained.work_dir / name).read_bytes())
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    output = run_tool(
        *('train.py', trained.config, '--work-dir', tmp_path, '--resume'),
        *('--cfg-options', 'train_cfg.max_epochs=2', 'param_scheduler.1.end=2'),
    )
    assert 'resumed epoch: 1, iter: 2' in output
    assert 'load_from is not set' not in output
    assert (tmp_path / 'epoch_2.pth').is_file()


def test_out_and_show_dir(tested):
    folder, output = tested
    dump = json.loads((folder / 'predictions.json').read_text())
    assert len(dump['samples']) == 7
    names = sorted(p.name for p in (folder / 'pictures').iterdir())
    assert names == [f'{i:06d}_shapes_test_{i:06d}.jpg' for i in range(7)]
    assert 'test/acc@0.5' in figures(output)


def test_dump_gives_the_same_figures(tested, run_tool):
    folder, output = tested
    out = folder / 'figures.json'
    again = run_tool(
        'analysis_tools/eval_predictions.py', folder / 'predictions.json', '--out', out
    )
    expected = figures(output)
    assert len(expected) >= 3 and figures(again) == expected
    assert set(json.loads(out.read_text())) == set(expected)


def test_dump_can_be_rated_otherwise(tested, call_tool):
    folder, _ = tested
    output = call_tool(
        *('analysis_tools/eval_predictions.py', folder / 'predictions.json'),
        *('--iou-thrs', 0, 0.999, '--protocol', 'canvas'),
    )
    assert figures(output)['test/acc@0'] == 100
    assert figures(output)['test/acc@0.999'] == 0


def test_dump_is_rated_as_it_was_written(tested, call_tool, fail_tool, tmp_path):
    tool = 'analysis_tools/eval_predictions.py'
    dump = json.loads((tested[0] / 'predictions.json').read_text())
    for sample in dump['samples']:  # right on the canvas, wrong in the image
        sample['canvas_bboxes'] = sample['gt_canvas_bboxes']
        sample['bboxes'] = [[0, 0, 1, 1] for _ in sample['bboxes']]
    dump['meta'].update(protocol='canvas', iou_thrs=[0.25, 0.75])
    path = tmp_path / 'canvas.json'
    path.write_text(json.dumps(dump))
    rated = figures(call_tool(tool, path))
    assert rated['test/acc@0.25'] == rated['test/acc@0.75'] == 100
    assert 'test/acc@0.5' not in rated
    rated = figures(call_tool(tool, path, '--protocol', 'image', '--iou-thrs', 0.5))
    assert rated['test/acc@0.5'] == 0 and 'test/acc@0.75' not in rated
    dump['meta']['format'] = 'mmvg-grounding-predictions-0'
    path.write_text(json.dumps(dump))
    assert "canvas.json has format 'mmvg-grounding-predictions-0'" in fail_tool(tool, path)


def test_tta_averages_the_flipped_view(trained, tested, run_tool, tmp_path):
    output = run_tool(
        *('test.py', trained.config, trained.checkpoint, '--work-dir', tmp_path, '--tta'),
        *('--out', tmp_path / 'tta.json', '--show-dir', tmp_path / 'pictures'),
    )
    assert 'test/acc@0.5' in figures(output)
    plain, tta = (
        json.loads(path.read_text())['samples']
        for path in (tested[0] / 'predictions.json', tmp_path / 'tta.json')
    )
    assert [s['queries'] for s in tta] == [s['queries'] for s in plain]
    assert [s['gt_bboxes'] for s in tta] == [s['gt_bboxes'] for s in plain]
    assert [s['bboxes'] for s in tta] != [s['bboxes'] for s in plain]
    assert len(list((tmp_path / 'pictures').iterdir())) == 7


# Read by every Python process whose path leads to it. Such a thread may abort the process.
NO_THREAD_OUTLIVES_MAIN = """
import atexit, glob, os
def check():
    names = []
    for path in glob.glob('/proc/self/task/*/comm'):
        try:
            names.append(open(path).read())
        except OSError:
            pass  # it has just ended
    if any('gloo' in name for name in names):
        print('left at exit:', names, flush=True)
        os._exit(66)
atexit.register(check)
"""


@pytest.mark.slow
def test_two_processes_train_and_test(
    tiny, trained, tested, run_tool, free_port, tmp_path, monkeypatch
):
    (tmp_path / 'sitecustomize.py').write_text(NO_THREAD_OUTLIVES_MAIN)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)

    def env():
        return dict(PORT=str(free_port()), CUDA_VISIBLE_DEVICES='')

    output = run_tool('dist_train.sh', tiny, 2, '--work-dir', tmp_path, **env())
    assert '[1][1/1]' in output  # 16 scenes, 8 per process
    assert (tmp_path / 'epoch_1.pth').is_file()
    output = run_tool(
        *('dist_test.sh', tiny, trained.checkpoint, 2, '--work-dir', tmp_path),
        *('--out', tmp_path / 'out.json', '--show-dir', tmp_path / 'pictures'),
        **env(),
    )
    assert figures(output) == figures(tested[1])
    assert len(json.loads((tmp_path / 'out.json').read_text())['samples']) == 7
    names = sorted(p.name for p in (tmp_path / 'pictures').iterdir())
    assert names == [f'{i:06d}_shapes_test_{i:06d}.jpg' for i in range(7)]


def test_missing_config_is_named(fail_tool):
    assert 'did you mean transvg_shapes' in fail_tool('train.py', 'transvg_shape')


@pytest.mark.skipif(torch.cuda.is_available(), reason='with a GPU --amp works')
def test_amp_needs_an_accelerator(tiny, fail_tool, tmp_path):
    assert 'needs an accelerator' in fail_tool('train.py', tiny, '--amp', '--work-dir', tmp_path)


def test_bad_flags_are_explained(tiny, fail_tool, tmp_path):
    assert 'base_batch_size' in fail_tool('train.py', tiny, '--auto-scale-lr')
    assert 'none.pth to resume from does not exist' in fail_tool(
        'train.py', tiny, '--resume', tmp_path / 'none.pth'
    )
    (tmp_path / 'last_checkpoint').write_text('/gone/epoch_7.pth')
    assert '/gone/epoch_7.pth to resume from' in fail_tool(
        'train.py', tiny, '--resume', '--work-dir', tmp_path
    )
    assert 'none.pth does not exist' in fail_tool('test.py', tiny, 'none.pth')


def test_missing_initial_weights_are_explained(tiny, fail_tool, tmp_path):
    message = fail_tool(
        *('train.py', tiny, '--work-dir', tmp_path, '--cfg-options', 'load_from=swin.pth')
    )
    assert 'load_from: swin.pth does not exist' in message and 'swin_mask_rcnn.py' in message


@pytest.mark.parametrize(
    ('name', 'load_from', 'expected'),
    [
        ('transvg_shapes', None, [None]),
        ('vcma_shapes', None, []),
        ('vcma_shapes', 'a.pth', ['a.pth']),
    ],
)
def test_initial_weights_are_missed_by_models_with_a_backbone(
    repository, name, load_from, expected
):
    checks = runpy.run_path(str(repository / 'tools/train.py'))['start_up_checks']
    asked = []
    checks.__globals__['check_initial_weights'] = lambda model, path: asked.append(path)
    cfg = load_config(name, dict(load_from=load_from, val_cfg=None))
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=[]))
    check_together(checks(SimpleNamespace(model=Linear(1, 1), hooks=[], train_loop=loop), cfg))
    assert asked == expected


def test_the_front_page_command_names_all_that_it_lacks(repository, monkeypatch, capsys, tmp_path):
    """No data, no initial weights, no hub: what is missing, where it goes and how to get it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    config, small = 'epmvg/qrnet_swin_refcoco', 'model.backbone.depths=[1,1,1,1]'
    monkeypatch.setattr(sys, 'argv', ['train.py', config, '--cfg-options', small])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(repository / 'tools/train.py'), run_name='__main__')
    assert caught.value.code == 2
    lines = capsys.readouterr().err.split('error: several things are missing or wrong:\n')[1]
    expected = [
        'checkpoints/swin-s_mask-rcnn_refcoco.pth does not exist.*swin_mask_rcnn.py.*README',
        r'data/coco/refcoco/refs\(unc\).p does not exist.*lichengunc/refer',
        'data/coco/refcoco/instances.json does not exist.*lichengunc/refer',
        'data/coco/train2014/ does not exist.*cocodataset.org',
        "BERT weights 'bert-base-uncased' were not found.*MMVG_TEXT_MODEL",
        "weights 'openai' of CLIP ViT-B-32-quickgelu could not be downloaded.*safetensors",
    ]
    assert len(lines.splitlines()) == len(expected)
    for line, pattern in zip(lines.splitlines(), expected):
        assert re.search(pattern, line), line


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('image_tap.module=bbox_head.fusoin', 'no submodule of TransVG.*bbox_head.fusion'),
        ('image_tap.token=learnable', 'learnable_vls=True'),
        ('view=original', 'needs the transform AddTeacherView'),
    ],
)
def test_unusable_distillation_is_explained_at_start_up(fail_tool, tmp_path, option, message):
    few = 'train_dataloader.dataset.num_scenes=8'
    line = fail_tool(
        *('train.py', 'epmvg/transvg_shapes', '--work-dir', tmp_path),
        *('--cfg-options', few, f'default_hooks.distillation.{option}'),
    )
    assert re.search(message, line)


def test_bad_data_is_explained_at_start_up(tiny, fail_tool, tmp_path):
    message = fail_tool(
        *('train.py', tiny, '--work-dir', tmp_path),
        *('--cfg-options', 'train_dataloader.dataset.types=colour'),
    )
    assert 'unknown expression types' in message


def test_unusable_test_options_are_explained(trained, fail_tool, tmp_path):
    test = ('test.py', trained.config, trained.checkpoint, '--work-dir', tmp_path)
    assert 'ends in .json' in fail_tool(*test, '--out', 'predictions.pkl')
    assert 'needs a metric with out_file' in fail_tool(
        *test, '--out', 'a.json', '--cfg-options', 'test_evaluator.type=CocoMetric'
    )
    message = fail_tool(*test, '--cfg-options', 'model.bbox_head.max_query_len=20')
    assert 'max_query_len 14' in message
    bare = tmp_path / 'bare.py'
    bare.write_text(f"_base_ = '{trained.config}'\ntta_model = None\ntta_pipeline = None\n")
    assert '--tta needs tta_model and tta_pipeline' in fail_tool(
        'test.py', bare, trained.checkpoint, '--tta', '--work-dir', tmp_path
    )


@pytest.mark.parametrize('options', [[], ['--tta']])
def test_unusable_checkpoints_are_explained(trained, fail_tool, tmp_path, options):
    def message(content, *more):
        path = tmp_path / 'given.pth'
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        line = fail_tool('test.py', trained.config, path, '--work-dir', tmp_path, *options, *more)
        assert 'given.pth' in line
        return line

    whole = trained.checkpoint.read_bytes()
    assert 'cannot be read' in message(whole[: len(whole) // 2])
    official = dict(model={'reg_token.weight': torch.ones(1, 256)})
    for content in (official, dict(official, args=argparse.Namespace(lr=1e-4))):
        assert 'tools/model_converters/transvg.py' in message(content)
    deeper = ('--cfg-options', 'model.bbox_head.num_layers=5')
    assert 'lacks 12 weights of this model' in message(whole, *deeper)


def test_unusable_dumps_are_explained(fail_tool, tmp_path):
    tool = 'analysis_tools/eval_predictions.py'
    assert 'none.json does not exist' in fail_tool(tool, tmp_path / 'none.json')
    broken = tmp_path / 'broken.json'
    for content in ('{"samples": [', '[]', '{"samples": []}', '{"samples": [{}], "meta": {}}'):
        broken.write_text(content)
        assert 'broken.json' in fail_tool(tool, broken)
