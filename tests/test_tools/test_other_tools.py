import json
import re
import subprocess

import mmcv
import pytest


def test_infer_writes_pictures_and_json(trained, scenes, run_tool, fail_tool, tmp_path):
    args = ('infer.py', trained.config, trained.checkpoint, '--out-dir', tmp_path)
    output = run_tool(*args, '--images', scenes[0], '--texts', 'the red circle', 'grüner Kreis')
    assert "'grüner Kreis' -> [" in output
    (answer,) = json.loads((tmp_path / 'predictions.json').read_text(encoding='utf-8'))
    assert answer['image'] == scenes[0]
    assert answer['queries'] == ['the red circle', 'grüner Kreis']
    assert all(0 <= x1 <= x2 <= 64 and 0 <= y1 <= y2 <= 64 for x1, y1, x2, y2 in answer['bboxes'])
    assert mmcv.imread(answer['picture']).shape[1] == 320
    assert 'nowhere.png does not exist' in fail_tool(
        *args, '--images', 'nowhere.png', '--texts', 'the red circle'
    )
    assert '2 images but 3 texts' in fail_tool(*args, '--images', *scenes, '--texts', *'abc')


@pytest.mark.parametrize('split', ['train', 'test'])
def test_browse_dataset(tiny, run_tool, call_tool, tmp_path, split):
    run = run_tool if split == 'train' else call_tool
    args = ('--out-dir', tmp_path, '--num', 3, '--split', split)
    run('analysis_tools/browse_dataset.py', tiny, *args)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [f'{split}_{i:06d}_shapes_{split}_{i:06d}.jpg' for i in range(3)]


def test_print_config(tiny, run_tool, tmp_path):
    out = tmp_path / 'whole.py'
    printed = run_tool('misc/print_config.py', tiny, '--out', out, '--cfg-options', 'max_epochs=3')
    assert "type='TransVG'" in printed and 'max_epochs = 3' in printed
    assert "type='TransVG'" in out.read_text() and '_base_' not in out.read_text()


def test_benchmark(tiny, run_tool):
    names = ('queries', 'reg-row', 'train', 'loading')
    output = run_tool(
        *('analysis_tools/benchmark.py', tiny, '--size', 64, 64, '--rounds', 2),
        *('--query', 'the red circle', '--compare', *names),
    )
    ratios = dict(re.findall(r'^(\S+) +ratio of the medians +([\d.]+) x$', output, re.MULTILINE))
    assert set(ratios) == set(names)
    assert all(float(ratio) > 0 for ratio in ratios.values())


def test_benchmark_of_a_grounder_whose_image_depends_on_the_query(call_tool):
    output = call_tool(
        *('analysis_tools/benchmark.py', 'qrnet_shapes', '--size', 64, 64, '--rounds', 1),
        *('--query', 'the red circle', '--num-queries', 3),
    )
    assert re.findall(r'^(\S+) +ratio of', output, re.MULTILINE) == ['queries', 'reg-row', 'train']


def test_benchmark_of_a_distillation_that_is_off(fail_tool):
    off = [f'default_hooks.distillation.{weight}=0' for weight in ('alpha', 'beta')]
    line = fail_tool(
        *('analysis_tools/benchmark.py', 'epmvg/transvg_shapes', '--compare', 'distil'),
        *('--cfg-options', *off),
    )
    assert 'alpha or beta' in line


@pytest.mark.parametrize('name', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test'])
def test_scripts_explain_their_arguments(repository, name):
    script = repository / 'tools' / f'{name}.sh'
    result = subprocess.run(['bash', str(script)], capture_output=True, text=True)
    assert result.returncode == 2 and f'usage: bash tools/{name}.sh' in result.stderr


@pytest.mark.parametrize(('name', 'flag'), [('train', '--work-dir'), ('test', 'checkpoint.pth')])
def test_slurm_scripts_hand_everything_on(repository, tmp_path, monkeypatch, name, flag):
    fake = tmp_path / 'srun'
    fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    monkeypatch.setenv('GPUS', '4')
    monkeypatch.setenv('SRUN_ARGS', '--time=1:00 --mem=8G')
    script = repository / 'tools' / f'slurm_{name}.sh'
    command = [
        'bash',
        str(script),
        'part',
        'job',
        'config.py',
        'checkpoint.pth',
        '--cfg-options',
        'a=b c',
    ]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[:2] == ['-p', 'part']
    assert {'--job-name=job', '--ntasks=4', '--ntasks-per-node=4', '--time=1:00', '--mem=8G'} < set(
        words
    )
    start = words.index('python')
    assert words[start + 2].endswith(f'tools/{name}.py') and words[start + 3] == 'config.py'
    assert flag in words and words[-2:] == ['--cfg-options', 'a=b c']
    assert words[words.index('--launcher') + 1] == 'slurm'
