import json

import mmcv
import numpy as np
import pytest
from PIL import Image

LINES = (
    # Two queries of one picture, whose boxes are its left and its right half.
    dict(
        image='a.png',
        queries=[
            dict(text='the left laptop', bbox=[0, 0, 50, 40], type='place'),
            dict(text='a dog', bbox=[50, 0, 100, 40]),
        ],
    ),
    dict(image='a.png', text='a dog', bbox=[50, 0, 100, 40]),  # again
    dict(image='a.png', text='a dog', bbox=[0, 0, 100, 10]),  # means another box
    dict(image='b.png', width=200, height=100, text='a laptop', bbox=[20, 80, 40, 103]),
    dict(image='nowhere.png', text='one two three four five six', bbox=[0, 0, 10, 20]),
)
CONFIG = """
default_scope = 'mmdet'
data = dict(type='GroundingJSONLDataset', data_root={root!r}, ann_file='a.jsonl',
            data_prefix=dict(img=''))
cut = [dict(type='LocationAwareSelect', cropped=[], default=[
    dict(type='TokenizeQueries', tokenizer={vocabulary!r}, max_query_len=6)])]
train_dataloader = dict(dataset=dict(
    type='RepeatDataset', times=3, dataset=dict(**data, group_by_image=True, pipeline=cut)))
val_dataloader = dict(dataset=dict(**data, name='val'))
test_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[
    dict(**data, name='val', test_mode=True, pipeline=cut),
    dict(**data, name='val', lower_case=False)]))
"""


@pytest.fixture
def call(call_tool, repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / 'tools' / 'analysis_tools'))
    return lambda *args: call_tool('analysis_tools/dataset_statistics.py', *args)


@pytest.fixture
def config(tmp_path):
    Image.new('RGB', (100, 40)).save(tmp_path / 'a.png')
    lines = '\n'.join(json.dumps(line) for line in LINES)
    (tmp_path / 'a.jsonl').write_text(lines, encoding='utf-8')
    words = 'the left lap ##top a dog one two three four five six'.split()
    vocabulary = tmp_path / 'vocab.txt'
    vocabulary.write_text('\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', *words]))
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(root=str(tmp_path), vocabulary=str(vocabulary)))
    return path


def test_figures(config, call, tmp_path):
    out = tmp_path / 'new' / 'figures.json'
    printed = call(config, '--split', 'train', '--json', out)
    figures = json.loads(out.read_text(encoding='utf-8'))['train']
    assert (figures['samples'], figures['images'], figures['queries']) == (3, 3, 6)
    assert figures['distinct_queries'] == 4
    assert figures['queries_per_image']['max'] == 4 and figures['queries_per_image']['mean'] == 2
    # Words 3 2 2 2 2 6; pieces 4 2 2 2 3 6, of which max_query_len=6 keeps 4.
    assert figures['words']['mean'] == pytest.approx(17 / 6) and figures['words']['median'] == 2
    assert figures['word_pieces']['mean'] == pytest.approx(19 / 6)
    assert figures['cut_percent'] == pytest.approx(100 / 6)
    assert figures['longest_query'] == 'one two three four five six'
    # "laptop" holds "top", but only "left" is a word of place.
    assert figures['place_percent'] == pytest.approx(100 / 6)
    assert figures['place_substring_percent'] == pytest.approx(200 / 6)
    assert figures['types_percent'] == pytest.approx({'place': 100 / 6, 'untyped': 500 / 6})
    assert (figures['repeated_annotations'], figures['ambiguous_queries']) == (1, 1)
    boxes = figures['boxes']
    # Areas 2000 2000 2000 1000 460 200 px; small is less than 1024.
    assert boxes['small_percent'] == boxes['medium_percent'] == 50 and boxes['large_percent'] == 0
    assert boxes['aspect']['max'] == 10 and boxes['aspect']['min'] == 0.5
    # The size of a.png is read from its header, that of b.png is annotated.
    assert (boxes['image_size_unknown'], boxes['beyond_image']) == (1, 1)
    assert boxes['area_percent']['max'] == 50 and boxes['area_percent']['min'] == 2.3
    # Centres: a quarter, three quarters twice, (0.5, 0.125) and (0.15, 0.915).
    assert boxes['centres_percent'] == [[0, 20, 0], [20, 0, 40], [20, 0, 0]]
    rows = dict(line.rsplit('  ', 1) for line in printed.splitlines()[1:-2])
    rows = {name.strip(): value for name, value in rows.items()}
    assert rows['queries'] == '6' and rows['queries cut, %'] == '16.67'
    assert rows['queries of type place, %'] == '16.7'


def test_every_data_set_is_a_column_once(config, call, tmp_path):
    picture = tmp_path / 'figures.png'
    header = call(config, '--picture', picture).splitlines()[0]
    # The first of the two test sets is the validation set; the second reads case differently.
    assert header.split() == ['train', 'val', 'val', '#2']
    image = mmcv.imread(str(picture))
    assert image.shape == (825, 1430, 3) and len(np.unique(image)) > 50


def test_without_a_tokeniser_the_rest_is_there(config, call, capsys):
    (config.parent / 'vocab.txt').unlink()
    printed = call(config, '--split', 'train')
    assert 'words per query' in printed and 'word pieces' not in printed


def test_errors(config, fail_tool, call):
    name = 'analysis_tools/dataset_statistics.py'
    (config.parent / 'a.jsonl').unlink()
    assert 'a.jsonl does not exist' in fail_tool(name, config)
    empty = config.with_name('empty.py')
    empty.write_text("default_scope = 'mmdet'\n")
    assert 'empty.py has no data set for val' in fail_tool(name, empty, '--split', 'val')


def test_generated_scenes_are_not_drawn(tiny, call, monkeypatch):
    monkeypatch.setattr('mmvg.datasets.shapes_grounding_dataset.render_scene', None)
    printed = call(tiny, '--split', 'test')
    assert 'queries of type relation, %' in printed


def test_videos_are_counted_by_their_id(call, tmp_path):
    out = tmp_path / 'figures.json'
    few = ('--cfg-options', 'train_dataloader.dataset.num_videos=3')
    files = ('--json', out, '--picture', tmp_path / 'figures.png')
    printed = call('vcma_shapes', '--split', 'train', *files, *few)
    (figures,) = json.loads(out.read_text(encoding='utf-8')).values()
    assert figures['videos'] == 3 and 'images' not in figures
    assert figures['queries_per_video']['mean'] == figures['queries'] / 3
    assert 'queries per video' in printed and 'image' not in printed
    assert (tmp_path / 'figures.png').is_file()


def test_real_expressions(samples, call, monkeypatch, tmp_path):
    monkeypatch.setenv('MMVG_SAMPLES', str(samples))
    monkeypatch.chdir(tmp_path)
    call('transvg_tiny_refcoco-sample', '--split', 'val', '--json', 'figures.json')
    figures = json.loads((tmp_path / 'figures.json').read_text(encoding='utf-8'))
    assert [f['queries'] for f in figures.values()] == [146, 135, 12]
    first, second, _ = figures.values()
    assert first['place_percent'] == pytest.approx(39.04, abs=0.01)  # RefCOCO
    assert second['place_percent'] < 1  # RefCOCO+ forbids words of place
    assert all(f['boxes']['beyond_image'] == 0 for f in figures.values())
