"""Relation files and categories: counts, several categories, interruption, reading back."""

import json
from collections import Counter

import pytest
from mmdet.registry import TRANSFORMS

from mmvg.datasets.transforms.load_relations import LoadRelations
from mmvg.models.losses import RelationLoss
from mmvg.text.relation_categories import RelationCategories, RelationFile, relation_line
from mmvg.text.relation_parser import Relation

TOOL = 'dataset_converters/parse_relations.py'
SENTENCES = dict(
    train=[
        '[/EN#1/people A man] in [/EN#2/clothing a hat] rides [/EN#3/other a bike] .',
        '[/EN#1/people A man] sits on [/EN#3/other a bike] .',
        '[/EN#1/people A man] is on [/EN#3/other a bike] near [/EN#9/other a tree] .',
        '[/EN#1/people A man] sitting on [/EN#3/other a bike] .',
        '[/EN#1/people A man] waits .',
    ],
    val=['[/EN#1/people A man] rides [/EN#3/other a bike] .'],
)
XML = '<annotation><size><width>9</width><height>9</height></size>{}</annotation>'
BOX = (
    '<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>'
    '</bndbox></object>'
)


@pytest.fixture(autouse=True)
def siblings(repository, monkeypatch):
    """Python puts the folder of a script in front when it is run."""
    monkeypatch.syspath_prepend(str(repository / 'tools/dataset_converters'))


@pytest.fixture
def config(tmp_path):
    """A config of two splits in the layout of Flickr30k Entities, one picture each."""
    lines = []
    for folder in ('Annotations', 'Sentences', 'images'):
        (tmp_path / folder).mkdir()
    boxes = ''.join(BOX.format(chain) for chain in (1, 2, 3))
    for split, sentences in SENTENCES.items():
        (tmp_path / f'{split}.txt').write_text(f'{split}\n')
        (tmp_path / f'Sentences/{split}.txt').write_text('\n'.join(sentences))
        (tmp_path / f'Annotations/{split}.xml').write_text(XML.format(boxes))
        dataset = dict(type='Flickr30kEntitiesDataset', ann_file=f'{split}.txt')
        dataset.update(data_root=str(tmp_path), data_prefix=dict(img='images'))
        lines.append(f'{split}_dataloader = dict(dataset={dataset})\n')
    path = tmp_path / 'config.py'
    path.write_text(''.join(lines))
    return path


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_files_of_a_data_set(config, call_tool, tmp_path):
    out = tmp_path / 'relations'
    output = call_tool(TOOL, config, out, '--min-count', 0)
    assert f'{out / "relations_train.jsonl"}: 5 relations in 5 records' in output
    assert sorted(p.name for p in out.iterdir()) == [
        *('categories.json', 'relations_train.jsonl', 'relations_val.jsonl')
    ]
    written = lines_of(out / 'relations_train.jsonl')
    assert written[0] == dict(
        caption='A man in a hat rides a bike .',
        spans=[[0, 2], [3, 5], [6, 8]],
        relations=[[0, 1, 'in'], [0, 2, 'ride']],
    )
    # The tree has no box, so it is no phrase.
    assert [line['relations'] for line in written[1:]] == [
        *([[0, 1, 'sit on']], [[0, 1, 'on']], [[0, 1, 'sit on']], [])
    ]
    categories = RelationCategories.load(str(out / 'categories.json'))
    assert categories.names == ['sit on', 'in', 'on', 'ride']
    # 'sit on' counts for 'on' as well.
    assert categories.counts == [2, 1, 3, 1]
    assert categories.label('sit on') == [0, 2] and categories.label('lie on') == []
    assert RelationLoss(class_counts=categories.counts).weights.tolist()[2] == 1
    load = dict(type='LoadRelations', categories=str(out / 'categories.json'))
    record = dict(caption=written[1]['caption'], query_spans=[(0, 2), (4, 6)])
    for files in ({}, dict(relations=str(out / 'relations_train.jsonl'))):
        transform = TRANSFORMS.build({**load, **files})
        assert transform(dict(record))['relations'] == [(0, 1, 'sit on', [0, 2])]
        assert transform(dict(queries=['a', 'b']))['relations'] == []
        assert '4 categories' in repr(transform)


def test_an_interrupted_run_is_continued(config, call_tool, fail_tool, tmp_path, monkeypatch):
    call_tool(TOOL, config, tmp_path / 'whole', '--min-count', 0)
    whole = (tmp_path / 'whole/relations_train.jsonl').read_text()
    out = tmp_path / 'cut'
    out.mkdir()
    part = out / '.relations_train.jsonl.rules.part'
    args = (TOOL, config, out, '--min-count', 0)
    # A line and a half. What is there is not parsed again, but counted.
    part.write_text(whole[: whole.index('\n') + 40].replace('"ride"', '"mount"'))
    call_tool(*args, '--resume')
    assert (out / 'relations_train.jsonl').read_text() == whole.replace('"ride"', '"mount"')
    assert 'mount' in RelationCategories.load(str(out / 'categories.json')).names
    assert not part.exists()
    # Complete files stay unless told otherwise; the categories are made again from them.
    assert 'exists; give --resume' in fail_tool(*args)
    (out / 'categories.json').unlink()
    assert 'is complete, left as it is' in call_tool(*args, '--resume')
    assert 'mount' in RelationCategories.load(str(out / 'categories.json')).names
    call_tool(*args, '--overwrite')
    assert (out / 'relations_train.jsonl').read_text() == whole
    # The rest of another data set.
    (out / 'relations_train.jsonl').unlink()
    part.write_text(relation_line('Another caption .', [(0, 1)], []))
    assert 'part:1 is of another caption' in fail_tool(*args, '--resume')


def test_clear_errors(config, fail_tool, tmp_path):
    assert 'has no split test, but train, val' in fail_tool(
        TOOL, config, tmp_path, '--split', 'test'
    )
    assert 'pip install SceneGraphParser' in fail_tool(
        *(TOOL, config, tmp_path, '--parser', 'scene_graph', '--spacy-model', 'none')
    )
    shapes = ('transvg_shapes', tmp_path, '--cfg-options', 'train_dataloader.dataset.num_scenes=3')
    assert 'has a caption with the places of its phrases' in fail_tool(TOOL, *shapes)


def test_categories_are_more_frequent_than_the_minimum():
    texts = Counter({'on': 101, 'sit on': 150, 'sit': 100, 'ride': 900, 'stand on': 7})
    categories = RelationCategories.build(texts)
    assert categories.names == ['ride', 'sit on', 'on']
    assert categories.counts == [900, 150, 251]
    assert categories.label('sit on') == [1, 2] and categories.label('stand on') == []
    always = RelationCategories.build(texts, parts='always')
    assert always.counts == [900, 150, 258] and always.label('stand on') == [2]
    never = RelationCategories.build(texts, parts='never')
    assert never.counts == [900, 150, 101] and never.label('sit on') == [1]
    assert len(RelationCategories.build(Counter())) == 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((['on'], [1], 'some'), 'parts must be one of'),
        ((['on', 'in'], [1]), '1 counts for 2 distinct names'),
        ((['on', 'on'], [1, 1]), '2 counts for 1 distinct names'),
    ],
)
def test_categories_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        RelationCategories(*arguments)


def test_bad_files(tmp_path):
    path = tmp_path / 'file'
    for read in (RelationCategories.load, RelationFile):
        with pytest.raises(FileNotFoundError, match='parse_relations.py'):
            read(str(path))
    path.write_text('{"categories": ["on"]}')
    with pytest.raises(ValueError, match="no file of relation categories .'counts'"):
        RelationCategories.load(str(path))
    path.write_text(relation_line('a b', [(0, 1)], []) + '{"caption": "a b"}\n')
    with pytest.raises(ValueError, match=':2 is no line of a relation file'):
        RelationFile(str(path))


def test_a_relation_file_is_read_where_a_caption_stands(tmp_path):
    path = tmp_path / 'relations.jsonl'
    entries = [('Ein Café .', [(0, 1), (1, 2)]), ('a b', [(0, 1)]), ('a b', [(0, 1), (1, 2)])]
    with open(path, 'w', encoding='utf-8') as f:
        for number, (caption, spans) in enumerate(entries):
            f.write(relation_line(caption, spans, [Relation(0, number, 'on')]))
    file = RelationFile(str(path))
    assert len(file) == 3
    for number, (caption, spans) in enumerate(entries):
        assert file.find(caption, [list(s) for s in spans]) == [(0, number, 'on')]
    with pytest.raises(ValueError, match="lacks the caption 'a c'"):
        file.find('a c', [(0, 1)])


def test_relations_are_loaded_before_queries_become_a_caption(tmp_path):
    path = tmp_path / 'categories.json'
    path.write_text(RelationCategories(['in'], [5]).dumps())
    results = LoadRelations(str(path))(dict(queries=['a man', 'in a hat']))
    assert results['relations'] == []
