import json
import runpy

import mmcv
import pytest
import torch
from mmdet.structures import DetDataSample
from PIL import Image

NAME = 'analysis_tools/browse_dataset.py'
CONFIG = """
default_scope = 'mmdet'
test_dataloader = dict(dataset=dict(
    type='GroundingJSONLDataset', data_root={root!r}, ann_file='a.jsonl', name='mine',
    data_prefix=dict(img=''), test_mode=True, pipeline=[
        dict(type='LoadGroundingImage'), dict(type='LoadQueryAnnotations'),
        dict(type='FlipWithText', prob=1.0), dict(type='PlaceOnCanvas', size=64),
        dict(type='PackGroundingInputs')]))
"""


@pytest.fixture
def config(tmp_path):
    lines = []
    for i in range(6):
        Image.new('RGB', (60, 40), 'white').save(tmp_path / f'{i}.png')
        lines.append(dict(image=f'{i}.png', text='the left dög', bbox=[0, 0, 20, 40]))
    lines[0]['type'] = 'place'
    (tmp_path / 'a.jsonl').write_text('\n'.join(map(json.dumps, lines)), encoding='utf-8')
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(root=str(tmp_path)))
    return path


def test_pictures_tell_what_was_done(config, call_tool, monkeypatch, tmp_path):
    seen = []

    def draw(image, queries, **kwargs):
        seen.append((queries, kwargs['notes'], kwargs['caption'], kwargs['gt_bboxes'].tolist()))
        assert kwargs['frame'] == (2, 12, 62, 52)
        return image

    monkeypatch.setattr('mmvg.visualization.draw_grounding', draw)
    call_tool(NAME, config, '--split', 'test', '--num', 2, '--out-dir', tmp_path / 'out')
    caption = 'mine, canvas 64 x 64, original 60 x 40, flipped'
    box = [[42.0, 12.0, 62.0, 52.0]]
    assert seen == [
        (['the right dög'], ['[place]'], caption, box),
        (['the right dög'], [''], caption, box),
    ]


def test_a_seed_chooses_at_random(config, call_tool, tmp_path):
    chosen = []
    for folder, seed in (('a', 1), ('b', 1), ('c', 2), ('d', None)):
        seeds = [] if seed is None else ['--seed', seed]
        out = tmp_path / folder
        call_tool(NAME, config, '--split', 'test', '--num', 3, '--out-dir', out, *seeds)
        chosen.append(sorted(path.name for path in out.iterdir()))
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[3] == ['test_000000_0.jpg', 'test_000001_1.jpg', 'test_000002_2.jpg']
    assert mmcv.imread(str(tmp_path / 'd' / chosen[3][0])).shape[1] == 320


def test_errors(config, fail_tool, tmp_path):
    (tmp_path / '1.png').unlink()
    args = (NAME, config, '--out-dir', tmp_path / 'out')
    assert '1.png does not exist' in fail_tool(*args, '--split', 'test')
    assert 'config.py has no data set for train' in fail_tool(*args)


def test_what_a_model_without_boxes_is_fed(call_tool, monkeypatch, tmp_path):
    """ReIR trains on captions and proposals; its pipeline loads no annotated box."""
    seen = []
    monkeypatch.setattr(
        'mmvg.visualization.draw_grounding', lambda image, *_, **given: seen.append(given) or image
    )
    call_tool(NAME, 'reir_shapes', '--num', 2, '--out-dir', tmp_path)
    for given in seen:
        assert given['gt_bboxes'] is None and given['proposals'].shape[1] == 4
        assert len(given['spans']) == len(given['notes']) and given['sentence'].startswith('a ')
    assert len(seen) == 2


def test_what_cannot_be_drawn_is_refused(fail_tool, repository, tmp_path):
    """Videos before their region file, which is not there, is asked for."""
    line = fail_tool(NAME, 'vcma_shapes', '--out-dir', tmp_path)
    assert 'ShapesVideoDataset is a data set of videos' in line and 'infer.py --videos' in line
    line = fail_tool(NAME, 'fcos_shapes', '--num', 1, '--out-dir', tmp_path)
    assert 'no picture or no queries' in line
    draw = runpy.run_path(str(repository / 'tools' / NAME))['draw_input']
    sample = DetDataSample(metainfo=dict(queries=['a dog']))
    for features in (dict(), dict(inputs=torch.zeros(64, 5, 5))):
        with pytest.raises(ValueError, match='with LoadRoIFeatures load the pictures as well'):
            draw(dict(data_samples=sample, **features))
