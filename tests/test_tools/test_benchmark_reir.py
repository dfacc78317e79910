import importlib
import re
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

NAME = 'analysis_tools/benchmark.py'


@pytest.fixture
def benchmark_reir(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / 'tools' / 'analysis_tools'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield importlib.import_module('benchmark_reir')


def test_every_comparison_is_printed(call_tool):
    names = [
        'reir-batch',
        'reir-batch-live',
        'reir-cache',
        'reir-cache-maps',
        'reir-cache-pictures',
    ]
    args = ['--size', 64, 96, '--num-images', 2, '--rounds', 1, '--device', 'cpu']
    output = call_tool(NAME, 'reir_shapes', *args, '--compare', *names)
    assert re.findall(r'^(\S+) +ratio of the medians +[\d.]+ x$', output, re.M) == names
    assert re.findall(r'^(\S+) +CPU time, ratio of the medians +[\d.]+ x$', output, re.M) == names
    assert len(re.findall(r' [\d.]+ ms, CPU +[\d.]+ ms$', output, re.M)) == 2 * len(names)
    assert 'a batch of 2 images' in output and '2 images one by one' in output


def test_other_models_are_refused(fail_tool):
    error = fail_tool(NAME, 'transvg_shapes', '--compare', 'reir-cache', '--num-images', 1)
    assert 'transvg_shapes.py is a config of TransVG, not of ReIR' in error


def test_times_of_the_clock_and_of_the_processor(repository, monkeypatch):
    """Waiting takes time, but none of the processor's."""
    monkeypatch.syspath_prepend(str(repository / 'tools' / 'analysis_tools'))
    benchmark = importlib.import_module('benchmark')

    def work():
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass

    work_times, wait_times = benchmark.measure(
        [('work', work), ('wait', lambda: time.sleep(0.05))], 3
    )
    assert len(work_times) == len(wait_times) == 3
    assert all(clock >= 0.04 and processor >= 0.05 for clock, processor in work_times)
    assert all(clock >= 0.05 and processor < 0.04 for clock, processor in wait_times)


def test_what_is_compared(benchmark_reir, repository):
    """Image by image gives the same update as the batch; cached features do without the backbone."""
    cfg = Config.fromfile(repository / 'configs/reir/reir_shapes.py')
    args = SimpleNamespace(device='cpu', size=(64, 96), num_images=3)
    weights = []
    for which in (0, 1):
        _, step = benchmark_reir.compare_batch(cfg, args)[which]
        model, optimizer, batches = step.args
        assert [len(batch) for batch in batches] == ([3] if which == 0 else [1, 1, 1])
        optimizer.param_groups[0]['lr'] = 1e-2
        before = [p.clone() for p in model.parameters()]
        step()
        weights.append([(a - b).detach() for a, b in zip(model.parameters(), before, strict=True)])
    assert any(w.abs().max() > 1e-3 for w in weights[0])
    for a, b in zip(*weights, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)
    for name, expected in (('reir-cache', 0), ('reir-cache-maps', 0), ('reir-cache-pictures', 1)):
        (_, cached), (_, live) = benchmark_reir.COMPARISONS[name](cfg, args)
        calls = []
        cached.args[0].backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        cached()
        assert len(calls) == expected, name
        live()
        assert len(calls) == expected + 1, name
