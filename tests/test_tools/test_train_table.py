import importlib.util
import json
import math
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper

# Stand for train.py and test.py: note every call, and leave what the real ones leave.
TRAIN = """
import json, pathlib, sys
config, folder = sys.argv[1], pathlib.Path(sys.argv[3])
assert sys.argv[2] == '--work-dir' and sys.argv[4] == '--resume'
text = pathlib.Path(config).read_text()
with open(CALLS, 'a') as f: f.write(f'train {config}\\n')
if 'breaks' in text: sys.exit('this row breaks')
(folder / 'now/vis_data').mkdir(parents=True)
lines = [{'iter': 10, 'loss': 1.0, 'step': 10}, {'val/acc': 40.0, 'step': 1}, {'val/acc': 80.0, 'step': 2}]
(folder / 'now/vis_data/scalars.json').write_text('\\n'.join(map(json.dumps, lines)))
(folder / 'epoch_2.pth').touch()
if 'best' in text: (folder / 'best_acc_epoch_1.pth').touch()
(folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))
"""
TEST = """
import json, pathlib, sys
config, checkpoint, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[4])
with open(CALLS, 'a') as f: f.write(f'test {config}\\n')
assert pathlib.Path(checkpoint).is_file() != ('untrained' in config)
assert ('best' in pathlib.Path(checkpoint).name) == ('best' in config)
scope = {}
exec(pathlib.Path(config).read_text(), scope)
(folder / 'now').mkdir(parents=True)
acc = 50.0 + 10 * scope['gain'] + scope['randomness']['seed']
(folder / 'now/now.json').write_text(json.dumps({'test/acc': acc, 'test/miou': 30.0}))
"""
TABLE = """
config = r'{base}'
common = dict(budget=7)
columns = {{'accuracy': 'test/acc', 'mean IoU': 'test/miou'}}
curve = dict(key='val/acc', target=70)
rows = {{'plain': dict(), 'better one': dict(gain=1), 'bad': dict(gain='breaks'),
        'untrained': dict(gain=-1, train_cfg=None)}}
"""


@pytest.fixture(scope='module')
def tool(repository):
    path = repository / 'tools/analysis_tools/train_table.py'
    spec = importlib.util.spec_from_file_location('train_table', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def table(tmp_path, tool, monkeypatch):
    calls = tmp_path / 'calls.txt'
    calls.touch()
    for name, text in (('train.py', TRAIN), ('test.py', TEST)):
        (tmp_path / name).write_text(f'CALLS = {str(calls)!r}\n{text}')
    monkeypatch.setattr(tool, 'TOOLS', tmp_path)
    (tmp_path / 'base.py').write_text('gain = 0\nbudget = 1\nrandomness = dict(seed=3)\n')
    path = tmp_path / 'table.py'
    path.write_text(TABLE.format(base=tmp_path / 'base.py'))

    def run(*args):
        argv = ['train_table.py', str(path), '--out', str(tmp_path / 'out'), *map(str, args)]
        monkeypatch.setattr('sys.argv', argv)
        tool.main()

    return SimpleNamespace(run=run, path=path, calls=calls, out=tmp_path / 'out')


def test_every_run_is_made_once_and_summed_up(table, capsys):
    table.run('--rows', 'plain', 'better one', '--seeds', 0, 2, '--jobs', 2)
    rows = capsys.readouterr().out.splitlines()
    assert '| plain | 2 |  | 51.0 ± 1.4 | 30.0 ± 0.0 | 1.8 ± 0.0 |' in rows
    # Against the first row seed by seed: the seeds' own spread is not in the difference.
    assert '| better one | 2 | +10.0 ± 0.0 | 61.0 ± 1.4 | 30.0 ± 0.0 | 1.8 ± 0.0 |' in rows
    assert len(table.calls.read_text().splitlines()) == 8
    assert Config.fromfile(table.out / 'plain/seed2.py').budget == 7
    results = json.loads((table.out / 'results.json').read_text())
    assert [run['test']['test/acc'] for run in results['better one']] == [60.0, 62.0]

    table.run('--rows', 'plain', '--seeds', 0)  # nothing is left to do
    assert len(table.calls.read_text().splitlines()) == 8
    table.run('--rows', 'plain', '--seeds', 0, 1)
    assert table.calls.read_text().count('seed1') == 2


def test_a_killed_run_is_resumed_and_a_finished_one_tested(table):
    table.run('--rows', 'plain', '--seeds', 0)
    (table.out / 'plain/seed0/test/now/now.json').unlink()
    (table.out / 'plain/seed0/test/now').rmdir()
    table.run('--rows', 'plain', '--seeds', 0)
    assert [line.split()[0] for line in table.calls.read_text().splitlines()] == [
        'train',
        'test',
        'test',
    ]


def test_a_row_without_training_is_only_tested(table, capsys):
    table.run('--rows', 'untrained', '--seeds', 0)
    assert '| untrained | 1 | -10.0 | 40.0 | 30.0 | never in 1 of 1 |' in capsys.readouterr().out
    calls = [line.split() for line in table.calls.read_text().splitlines()]
    assert [kind for kind, config in calls if 'untrained' in config] == ['test']


EXTRACT = """
import pathlib, sys
checkpoint, out = sys.argv[1:]
with open(CALLS, 'a') as f: f.write(f'extract {checkpoint}\\n')
assert pathlib.Path(checkpoint).name == 'epoch_2.pth'
pathlib.Path(out, 'regions').touch()
"""


def test_rows_wait_for_what_is_prepared_and_test_the_best_weights(table):
    extract = table.path.with_name('extract.py')
    extract.write_text(f'CALLS = {str(table.calls)!r}\n{EXTRACT}')
    base = str(table.path.with_name('base.py'))
    table.path.write_text(
        table.path.read_text().replace("'plain': dict()", "'best': dict(note='best')")
        + f'initial = dict(config={base!r})\n'
        + "prepare = [['extract.py', '{checkpoint}', '{out}']]\nweights = 'best'\n"
    )
    table.run('--rows', 'best', '--seeds', 0)
    calls = [line.split()[0] for line in table.calls.read_text().splitlines()]
    assert calls == ['train', 'extract', 'train', 'test'] and (table.out / 'regions').exists()
    # Nothing is taken over from the first training.
    assert 'load_from' not in Config.fromfile(table.out / 'best/seed0.py')
    table.run('--rows', 'best', '--seeds', 0)
    assert len(table.calls.read_text().splitlines()) == 4
    assert json.loads((table.out / 'results.json').read_text())['best'][0]['unit'] == 'iteration'
    (table.out / 'best/seed0/best_acc_epoch_1.pth').unlink()
    with pytest.raises(RuntimeError, match=r'has 0 files best_\*.pth'):
        table.run('--rows', 'best', '--seeds', 0)
    table.path.write_text(table.path.read_text().replace("weights = 'best'", "weights = 'any'"))
    with pytest.raises(SystemExit):
        table.run('--rows', 'best', '--seeds', 0)


def test_what_fails_is_named(table, capsys):
    with pytest.raises(RuntimeError, match=r'train.py failed; see the end of .*seed0.log'):
        table.run('--rows', 'bad', '--seeds', 0, '--jobs', 1)
    assert 'this row breaks' in (table.out / 'bad/seed0.log').read_text()
    with pytest.raises(SystemExit):
        table.run('--rows', 'worse')
    assert "no rows ['worse']" in capsys.readouterr().err
    table.run('--rows', 'plain', '--seeds', 0)
    with pytest.raises(SystemExit):
        table.run('--rows', 'plain', '--seeds', 0, '--cfg-options', 'budget=8')
    assert 'is of a run with other settings' in capsys.readouterr().err
    table.path.write_text(table.path.read_text().replace('test/miou', 'test/iou'))
    with pytest.raises(RuntimeError, match=r"no test metrics \['test/iou'\]; it has \['test/acc'"):
        table.run('--rows', 'plain', '--seeds', 0)
    table.path.write_text("config = 'base.py'\nrows = dict(a=dict())\n")
    with pytest.raises(SystemExit):
        table.run()
    assert 'is not a table: it has no columns' in capsys.readouterr().err


def test_a_config_that_a_kill_tore_is_none(tool, tmp_path, monkeypatch):
    """Or the same command would take it for that of another run."""

    def kill(*_):
        raise KeyboardInterrupt

    path, cfg = tmp_path / 'plain/seed0.py', Config(dict(gain=1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr('os.fsync', kill)  # before all is on the disk
        tool.write_config(cfg, path)
    assert not path.exists()
    assert tool.write_config(cfg, path) == tool.write_config(cfg, path) == path
    assert Config.fromfile(path).gain == 1


def test_the_first_row_is_always_made(tool):
    table = Config(dict(rows=dict(a={}, b={}, c={})))
    assert tool.choose_rows(table, ['c']) == ['a', 'c']
    assert tool.choose_rows(table, None) == ['a', 'b', 'c']


def test_epochs_until_a_target(tool):
    epochs_until = tool.epochs_until
    val = {3: {'a': 80.0}, 1: {'a': 40.0}, 2: {'a': 60.0}}
    assert epochs_until(val, 'a', 70) == 2.5
    assert epochs_until(val, 'a', 20) == 0.5  # from 0 at the start
    assert epochs_until(val, 'a', 81) == math.inf


@pytest.mark.parametrize('name', ['epmvg_shapes', 'reir_shapes', 'vcma_shapes'])
def test_rows_of_shipped_tables_build(tool, repository, name):
    table = tool.read_table(repository / f'tools/analysis_tools/tables/{name}.py')
    configs = tool.row_configs(table, list(table.rows), [5], None)
    assert {cfg.randomness.seed for cfg in configs.values()} == {5}
    texts = {cfg.pretty_text for cfg in configs.values()}
    # A sweep may hold the config's own value.
    assert len(texts) >= len(table.rows) - 2 * (name == 'vcma_shapes')
    for cfg in configs.values():
        model = MODELS.build(cfg.model)
        if 'distillation' in cfg.default_hooks:
            hook = HOOKS.build(cfg.default_hooks.distillation)
            wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
            runner = SimpleNamespace(model=model, optim_wrapper=wrapper, param_schedulers=[])
            hook.before_run(runner)
            hook.before_train(runner)  # finds what it taps
            hook.after_train(runner)
