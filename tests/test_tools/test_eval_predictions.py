"""Dumps of the metrics beyond the plain one."""

import json

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmvg.evaluation import VideoTubeMetric
from mmvg.evaluation.metrics.grounding_metric import DUMP_FORMAT

TOOL = 'analysis_tools/eval_predictions.py'
BOUNDS = ('upper_bound', 'upper_bound_refined')


@pytest.fixture(scope='module')
def untrained(repository, tmp_path_factory):
    """A ReIR for six generated captions, and its checkpoint, which moves boxes."""
    folder = tmp_path_factory.mktemp('reir')
    (folder / 'tiny.py').write_text(
        f"_base_ = '{repository / 'configs/reir/reir_shapes.py'}'\n"
        "model = dict(refine='always')\n"
        'test_dataloader = dict(batch_size=4, dataset=dict(num_scenes=6))\n'
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(folder / 'tiny.py').model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'tiny.pth')
    return folder / 'tiny.py', folder / 'tiny.pth'


@pytest.fixture
def dump(untrained, call_tool, tmp_path):
    call_tool('test.py', *untrained, '--work-dir', tmp_path, '--out', tmp_path / 'all.json')
    (log,) = tmp_path.glob('*/*.json')
    return tmp_path / 'all.json', json.loads(log.read_text())


def test_phrases_are_rated_again_by_their_own_metric(dump, call_tool, fail_tool, tmp_path):
    path, logged = dump
    out = tmp_path / 'again.json'
    call_tool(TOOL, path, '--out', out)
    again = json.loads(out.read_text())
    assert again == {name: value for name, value in logged.items() if 'time' not in name}
    assert again['test/coarse/miou'] > 0 and 'test/recall@5' in again
    raw, moved = ([again[f'test/{n}@{t}'] for t in (0.5, 0.6, 0.7, 0.8)] for n in BOUNDS)
    assert raw != moved

    content = json.loads(path.read_text())
    for entry in content['samples']:
        entry['fine_bboxes'] = [
            [x1, y1, x2, (y1 + y2) / 2] for x1, y1, x2, y2 in entry['gt_bboxes']
        ]
    path.write_text(json.dumps(content))
    # Half of a box, within rounding: 0.49 is below, whatever is asked of 0.5.
    call_tool(TOOL, path, '--strict', '--iou-thrs', 0.49, 1, '--out', out)
    figures = json.loads(out.read_text())
    assert figures['test/fine/acc@0.49'] == 100 and figures['test/fine/acc@1'] == 0
    assert figures['test/recall@5'] == again['test/recall@5']

    assert 'original image' in fail_tool(TOOL, path, '--protocol', 'canvas')
    content['meta']['metric']['type'] = 'MyMetric'
    path.write_text(json.dumps(content))
    assert 'rated by MyMetric, which is not part of mmvg' in fail_tool(TOOL, path)
    # Older dumps do not name their metric.
    del content['meta']['metric']
    path.write_text(json.dumps(content))
    call_tool(TOOL, path, '--out', out)
    figures = json.loads(out.read_text())
    assert 'test/recall@5' not in figures and figures.items() <= logged.items()


def test_tubes_are_not_rated_again(fail_tool, tmp_path):
    path = tmp_path / 'tubes.json'
    metric = VideoTubeMetric(out_file=str(path))
    tube = dict(span=(0, 2), bboxes=np.ones((4, 4), np.float32), score=0.5)
    about = dict(video_id='v', dataset_name='', segment=(0, 4), frame_ids=np.arange(4))
    asked = dict(queries=['q'], query_ids=[0], query_types=['declarative'])
    metric.process({}, [dict(**about, **asked, tubes=[tube], pred_tubes=[tube])])
    metric.evaluate(1)
    message = 'tubes.json holds the tubes of a model of videos; only dumps about pictures'
    assert message in fail_tool(TOOL, path)
    analysis = ('analysis_tools/error_analysis.py', path, '--out-dir', tmp_path / 'out')
    assert message in fail_tool(*analysis)
    content = json.loads(path.read_text())
    content['meta'] = dict(format=DUMP_FORMAT)
    path.write_text(json.dumps(content))
    assert 'not how they were rated; write it again' in fail_tool(TOOL, path)
