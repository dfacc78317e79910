import importlib
import re

import numpy as np
import pytest
from mmengine.config import Config

NAME = 'analysis_tools/benchmark_vcma.py'


@pytest.fixture
def tool(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / 'tools' / 'analysis_tools'))
    return importlib.import_module('benchmark_vcma')


def test_every_group_is_printed(call_tool):
    args = ['vcma_shapes', '--scale', 0.04, '--rounds', 1, '--detector', 'none']
    output = call_tool(NAME, *args)
    titles = re.findall(r'^(link|e-step)(?: \((\w+)\))?, (\w+)', output, re.M)
    assert titles == [
        *((x, m, g) for x, m in (('link', 'viterbi'), ('link', 'hungarian')) for g in GROWING),
        *(('e-step', '', g) for g in (*GROWING, 'entities')),
    ]
    rows = re.findall(r'^  (\d+) +[\d.]+ +([\d.]+) +([\d.]+)$', output, re.M)
    assert len(rows) == 6 * 4 + 3
    assert rows[4:8] == [(n, rows[4 + i][1], f'{g}.00') for i, (n, g) in enumerate(PROPOSALS)]
    assert [row[1] for row in rows[::4]] == ['1.00'] * 7


GROWING = ('frames', 'proposals')
PROPOSALS = [('5', 1), ('10', 2), ('20', 4), ('40', 8)]


def test_linking_finds_all_objects_through_the_whole_video(tool, repository):
    cfg = Config.fromfile(repository / 'configs/vcma/vcma_shapes.py')
    for method in tool.METHODS:
        tubes = tool.link(cfg, method, 12, 5)()
        assert len(tubes) == 5 and (tubes.rows >= 0).all()
        features = tool.detections(12, 5, 64)[1]
        for rows in tubes.rows:  # of one object
            vectors = np.stack([f[row] for f, row in zip(features, rows)])
            assert (vectors @ vectors[0] > 30).all()


def test_other_models_are_refused(fail_tool):
    error = fail_tool(NAME, 'transvg_shapes', '--detector', 'none')
    assert 'transvg_shapes is a config of TransVG, not of VCMA' in error
