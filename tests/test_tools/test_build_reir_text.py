"""Vocabularies and word tables from data sets, and every source of vectors."""

import gzip
import importlib
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmvg.datasets.proposal_writer import ProposalWriter
from mmvg.models.teachers import OpenCLIPTeacher
from mmvg.text import build_tokenizer
from mmvg.text.vocabulary import UNKNOWN, Vocabulary
from mmvg.text.word_table import load_word_table

TOOL = 'misc/build_reir_text.py'
SENTENCES = dict(
    train=['[/EN#1/people A man] rides [/EN#2/other a bike] .', '[/EN#1/animals Two dogs] run'],
    val=['[/EN#1/people a man] walks [/EN#2/animals a zebra] .'],
)
XML = '<annotation><size><width>9</width><height>9</height></size>{}{}</annotation>'
BOX = (
    '<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>'
    '</bndbox></object>'
)
VECTORS = 'a 1 0 0\nMan 0 9 9\nman 0 1 0\nbike 0 0 2\nzebra 1 1 1\ncow 3 3 3\n. . . 5 5 5\n'


@pytest.fixture(autouse=True)
def siblings(repository, monkeypatch):
    """Python puts the folder of a script in front when it is run."""
    monkeypatch.syspath_prepend(str(repository / 'tools/misc'))


@pytest.fixture
def vectors(siblings):
    return importlib.import_module('word_vectors')


@pytest.fixture
def config(tmp_path):
    """A config of two splits in the layout of Flickr30k Entities, one picture each."""
    lines = []
    for folder in ('Annotations', 'Sentences', 'images'):
        (tmp_path / folder).mkdir()
    for split, sentences in SENTENCES.items():
        (tmp_path / f'{split}.txt').write_text(f'{split}\n')
        (tmp_path / f'Sentences/{split}.txt').write_text('\n'.join(sentences))
        (tmp_path / f'Annotations/{split}.xml').write_text(XML.format(BOX.format(1), BOX.format(2)))
        dataset = dict(type='Flickr30kEntitiesDataset', ann_file=f'{split}.txt')
        dataset.update(data_root=str(tmp_path), data_prefix=dict(img='images'))
        lines.append(f'{split}_dataloader = dict(dataset={dataset})\n')
    path = tmp_path / 'config.py'
    path.write_text(''.join(lines))
    return path


@pytest.fixture
def categories(tmp_path):
    path = tmp_path / 'objects.txt'
    path.write_text('men,people\nMountain Bike\nunicorn\n')
    return path


def test_vocabularies_of_the_training_set(config, call_tool, tmp_path):
    call_tool(TOOL, config, tmp_path / 'text')
    load = {
        n: Vocabulary.load(str(tmp_path / f'text/{n}_vocab.json')) for n in ('caption', 'phrase')
    }
    assert load['caption'].words == [
        UNKNOWN,
        'a',
        '.',
        'bike',
        'dogs',
        'man',
        'rides',
        'run',
        'two',
    ]
    assert load['phrase'].words == [UNKNOWN, 'a', 'bike', 'dogs', 'man', 'two']
    assert load['phrase'].encode('a zebra') == [2, 1]
    call_tool(TOOL, config, tmp_path / 'all', '--scope', 'all')
    everything = Vocabulary.load(str(tmp_path / 'all/phrase_vocab.json')).words
    assert everything == ['a', 'man', 'bike', 'dogs', 'two', 'zebra']
    assert sorted(p.name for p in (tmp_path / 'text').iterdir()) == [
        *('caption_vocab.json', 'phrase_vocab.json')
    ]


def test_wrapped_data_sets_are_read(config, call_tool, fail_tool, tmp_path):
    call_tool(TOOL, config, tmp_path / 'plain', '--scope', 'all')
    with config.open('a') as f:
        for split in ('train', 'val'):
            inner = f'{split}_dataloader["dataset"]'
            f.write(f"{inner} = dict(type='RepeatDataset', times=2, dataset={inner})\n")
    call_tool(TOOL, config, tmp_path / 'wrapped', '--scope', 'all')
    for name in ('caption', 'phrase'):
        plain, wrapped = (tmp_path / f / f'{name}_vocab.json' for f in ('plain', 'wrapped'))
        assert plain.read_text() == wrapped.read_text()
    with config.open('a') as f:
        f.write('train_dataloader = None\n')
    assert 'has no data set for train' in fail_tool(TOOL, config, tmp_path / 'none')


def test_word_table_of_a_text_file(config, categories, call_tool, tmp_path):
    path = tmp_path / 'glove.txt'
    path.write_text(VECTORS)
    args = (TOOL, config, tmp_path / 'text', '--vectors', path, '--categories', categories)
    output = call_tool(*args)
    table = load_word_table(tmp_path / 'text/word_table.safetensors')
    # Words of all splits that have a vector; 'zebra' is of the validation set only.
    assert table.word_list == ['a', 'bike', 'man', 'zebra']
    assert json.loads((tmp_path / 'text/table_words.json').read_text()) == table.word_list
    assert table.words.tolist() == [[1, 0, 0], [0, 0, 2], [0, 1, 0], [1, 1, 1]]
    # 'men' and 'unicorn' have no vector, of 'mountain bike' one word has.
    assert table.category_list == ['men', 'mountain bike', 'unicorn']
    assert table.categories.tolist() == [[0, 0, 0], [0, 0, 2], [0, 0, 0]]
    assert "without a vector, fitting no phrase: 2 categories, e.g. ['men', 'unicorn']" in output
    assert table.info == dict(vectors=str(path), label_compose='mean')


def test_categories_are_the_classes_of_a_proposal_file(config, call_tool, fail_tool, tmp_path):
    for name, classes in (('named', ['Man,guy', 'Mountain Bike']), ('bare', None)):
        with ProposalWriter(tmp_path / name, dict(classes=classes)) as writer:
            writer.add('1', np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    call_tool(TOOL, config, tmp_path / 'text', '--categories', tmp_path / 'named')
    table = load_word_table(tmp_path / 'text/word_table.safetensors')
    assert table.category_list == ['man', 'mountain bike']
    message = fail_tool(TOOL, config, tmp_path / 'text', '--categories', tmp_path / 'bare')
    assert 'bare does not name its classes; give a text file' in message


def test_exact_match_is_of_lemmas(config, categories, call_tool, tmp_path):
    call_tool(TOOL, config, tmp_path / 'text', '--categories', categories)
    table = load_word_table(tmp_path / 'text/word_table.safetensors')
    assert table.word_list == ['bike', 'man']
    cosines = torch.nn.functional.cosine_similarity(
        table.words[:, None], table.categories[None], dim=2
    )
    expected = torch.tensor([[0, 0.5**0.5, 0], [1, 0, 0]])
    torch.testing.assert_close(cosines, expected)


def test_queries_without_a_caption_are_captions(call_tool, tmp_path):
    call_tool(
        *(TOOL, 'transvg_shapes', tmp_path, '--cfg-options'),
        *(f'{p}_dataloader.dataset.num_scenes=5' for p in ('train', 'val')),
        'test_dataloader.dataset=None',
    )
    caption, phrase = (
        Vocabulary.load(str(tmp_path / f'{name}_vocab.json')).words
        for name in ('caption', 'phrase')
    )
    assert caption == phrase and 'circle' in caption


def test_clear_errors(config, categories, fail_tool, tmp_path):
    args = (TOOL, config, tmp_path, '--categories')
    assert 'objects_vocab.txt' in fail_tool(*args, tmp_path / 'none.txt')
    assert 'glove.6B' in fail_tool(*args, categories, '--vectors', 'none.txt')
    (tmp_path / 'picture.txt').write_text('man 1 0 x\n')
    bad = fail_tool(*args, categories, '--vectors', tmp_path / 'picture.txt')
    assert 'picture.txt:1 is not a word and its vector' in bad
    (tmp_path / 'other.txt').write_text('cow 1 0\n')
    assert 'knows none of the' in fail_tool(*args, categories, '--vectors', tmp_path / 'other.txt')
    categories.write_text('man\n\ndog\n')
    assert 'objects.txt:2 has no name' in fail_tool(*args, categories)
    assert "'nobert' were not found" in fail_tool(
        *(*args[:-1], '--categories', config, '--vectors', 'bert:nobert'),
        *('--tokenizer', 'builtin:shapes'),
    )


def test_text_files_may_have_a_header_and_be_packed(vectors, tmp_path):
    path = tmp_path / 'wiki.vec.gz'
    with gzip.open(path, 'wt') as f:
        f.write('6 3\n' + VECTORS)
    found = vectors.text_file(['man', 'a', 'sofa', '. . .'], path)
    assert {k: v.tolist() for k, v in found.items()} == {
        'a': [1, 0, 0],
        'man': [0, 1, 0],
        '. . .': [5, 5, 5],
    }


def test_token_embeddings_of_bert(vectors, tmp_path, monkeypatch):
    from transformers import BertConfig, BertModel

    tokenizer = build_tokenizer('builtin:shapes')
    size = dict(hidden_size=8, num_attention_heads=2, intermediate_size=8, num_hidden_layers=1)
    model = BertModel(BertConfig(vocab_size=tokenizer.vocab_size, **size))
    model.save_pretrained(tmp_path)
    words = ['circle', 'green', 'zebra']
    found = vectors.load_vectors(f'bert:{tmp_path}', words, [], 'builtin:shapes')
    assert set(found) == {'circle', 'green'}  # zebra has no pieces there
    (row,) = tokenizer.pieces('green')
    assert torch.equal(found['green'], model.embeddings.word_embeddings.weight[row].detach())
    pieces = vectors.mean_rows(['x'], lambda _: [0, 2], torch.eye(3), 'n')
    assert pieces['x'].tolist() == [0.5, 0, 0.5]
    with pytest.raises(ValueError, match='n has 3 tokens'):
        vectors.mean_rows(['x'], lambda _: [3], torch.eye(3), 'n')


def test_token_embeddings_of_clip(vectors, repository, monkeypatch):
    cfg = Config.fromfile(repository / 'configs/_base_/models/shapes_clip.py').shapes_clip
    cfg.pop('type')
    teacher = OpenCLIPTeacher(**cfg)
    monkeypatch.setattr(vectors, 'build_clip', lambda *_: (teacher.clip, {}))
    found = vectors.load_vectors('clip:Shapes:file', ['blue', 'triangle'], [], 'builtin:shapes')
    (row,) = build_tokenizer('builtin:shapes').pieces('blue')
    assert torch.equal(found['blue'], teacher.clip.token_embedding.weight[row])
    # CLIP's own tokens, without start and end
    assert vectors.clip_pieces('ViT-B-32', None)('dog') == [1929]
