"""What a ReIR or VCMA recipe lacks is said at once, before the model; proposals must have its categories."""

import re

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmvg.apis import check_files
from mmvg.datasets.proposal_writer import ProposalWriter
from mmvg.datasets.video_regions import VideoRegionWriter
from mmvg.text import WordTable

SHAPES = ['circle', 'square', 'triangle']


@pytest.fixture
def recipe(repository, tmp_path, monkeypatch):
    """Function that reads a recipe whose data would lie in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def load(name):
        return Config.fromfile(repository / f'configs/{name.split("_")[0]}/{name}.py')

    return load


def find_problems(cfg, splits):
    with pytest.raises(ValueError) as caught:
        check_files(cfg, splits)
    return str(caught.value).splitlines()[1:]


FLICKR = [
    'relations/categories.json do not exist; make it .*parse_relations.py CONFIG data/flickr30k/rel',
    'text/caption_vocab.json does not .*build_reir_text.py CONFIG data/flickr30k/text .*--categories',
    'text/word_table.safetensors does not .*build_reir_text.py .*--categories PROPOSALS .*class names',
    'text/phrase_vocab.json does not exist',
    'data/flickr30k/proposals does not exist; make it with .*extract_proposals.py CONFIG CHECKPOINT',
    'text/table_words.json does not exist',
    'relations/relations_train.jsonl does not exist; make it with .*parse_relations.py',
    'relations/relations_val.jsonl does not exist',
    'load_from: checkpoints/bottom-up_r101.pth does not exist.*bottom_up.py',
    'data/flickr30k/train.txt does not exist',
    'data/flickr30k/Annotations does not exist.*annotations.zip',
    'data/flickr30k/Sentences does not exist.*annotations.zip',
    'data/flickr30k/flickr30k-images/ does not exist.*DenotationGraph',
    'data/flickr30k/val.txt does not exist',
]


def test_a_training_names_all_that_it_lacks(recipe):
    lines = find_problems(recipe('reir_r101_flickr30k'), ('train', 'val'))
    assert len(lines) == len(FLICKR)
    for line, pattern in zip(lines, FLICKR, strict=True):
        assert re.search(pattern, line), line


TEXT = ["tokenizer 'no-bert' is neither a folder", "BERT weights 'no-bert' were not found"]
VIDSTG = [
    TEXT[0],
    r'predicates.json does not .*/misc/build_predicates.py CONFIG --out data/vidstg/predicates.json$',
    'region file data/vidstg/regions does not .*/extract_video_regions.py DETECTOR-CONFIG CHECKPOINT '
    'CONFIG --out data/vidstg/regions;.* README .* which detector',
    'data/vidstg/train_annotations.json does not exist.*Guaranteer',
    'data/vidstg/vidor/video/ does not exist .*data_prefix.*README',
    'data/vidstg/val_annotations.json does not exist.*Guaranteer',
    'data/vidstg/vidor/annotation/ does not exist',
    TEXT[1],
]
HCSTVG = [
    TEXT[0],
    'build_predicates.py CONFIG --out data/hc-stvg/predicates.json$',
    'extract_video_regions.py .* CONFIG --out data/hc-stvg/regions',
    'data/hc-stvg/train.json does not exist',
    'data/hc-stvg/video/ does not exist',
    'data/hc-stvg/test.json does not exist',
    TEXT[1],
]


@pytest.mark.parametrize(('dataset', 'expected'), [('vidstg', VIDSTG), ('hcstvg', HCSTVG)])
def test_a_training_on_videos_names_all_that_it_lacks(recipe, monkeypatch, dataset, expected):
    monkeypatch.setenv('MMVG_TEXT_MODEL', 'no-bert')
    cfg = recipe(f'vcma_r101_{dataset}')
    lines = find_problems(cfg, ('train', 'val'))
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.search(pattern.replace(' CONFIG', f' vcma_r101_{dataset}'), line), line
    # A test loads BERT with the checkpoint.
    assert not any('BERT weights' in line for line in find_problems(cfg, ('test',)))


def test_what_is_there_is_not_asked_for(recipe, tmp_path, monkeypatch):
    """Neither videos, of which there are regions, nor boxes to train with."""
    (tmp_path / 'vocab.txt').write_text('[PAD]\n[UNK]\n[CLS]\n[SEP]\n')
    monkeypatch.setenv('MMVG_TEXT_MODEL', str(tmp_path))
    (tmp_path / 'own.py').write_text(f'_base_ = {recipe("vcma_r101_vidstg").filename!r}\n')
    cfg = Config.fromfile(tmp_path / 'own.py')
    with VideoRegionWriter('data/vidstg/regions', dict(detector='none')):
        (problem,) = (x for x in find_problems(cfg, ('train',)) if 'region file' in x)
        assert 'data/vidstg/regions is not finished' in problem and ' own.py --out' in problem
    lines = find_problems(cfg, ('train',))
    assert len(lines) == 3
    for line, name in zip(lines, ('predicates', 'train_annotations', 'BERT weights'), strict=True):
        assert name in line
    assert 'build_predicates.py own.py --out data/vidstg/predicates.json' in lines[0]


def test_generated_videos_lack_their_regions_only(recipe):
    with pytest.raises(ValueError, match='vcma_shapes --out work_dirs/shapes_video_regions'):
        check_files(recipe('vcma_shapes'), ('train', 'val', 'test'))


def test_referit_has_no_relations_and_a_test_no_initial_weights(recipe):
    lines = find_problems(recipe('reir_r101_referit'), ('test',))
    text = '\n'.join(lines)
    assert 'relation' not in text and 'bottom-up_r101' not in text and 'referit_train' not in text
    for name in (
        'phrase_vocab.json',
        'proposals',
        'referit_val.pth',
        'referit_test.pth',
        'images/',
    ):
        assert f'data/referit/{name}' in text or f'data/referit/text/{name}' in text


def test_a_resumed_training_needs_no_initial_weights(recipe):
    cfg = recipe('reir_r101_flickr30k')
    cfg.resume = True
    assert not any('load_from' in line for line in find_problems(cfg, ('train',)))


def test_the_folder_of_texts_is_chosen_by_a_variable(recipe, monkeypatch):
    assert recipe('reir_r101_flickr30k').word_table == 'data/flickr30k/text/word_table.safetensors'
    monkeypatch.setenv('MMVG_REIR_TEXT', 'text_all')
    cfg = recipe('reir_r101_flickr30k_code')
    assert cfg.word_table == 'data/flickr30k/text_all/word_table.safetensors'
    assert cfg.model.language_model.vocab_size == 'data/flickr30k/text_all/caption_vocab.json'
    encode = next(s for s in cfg.train_dataloader.dataset.pipeline if s.type == 'EncodePhrases')
    assert encode.table_words == 'data/flickr30k/text_all/table_words.json'
    assert recipe('reir_r101_referit').phrase_vocab == 'data/referit/text_all/phrase_vocab.json'


@pytest.fixture
def shapes(recipe, tmp_path):
    """Function: the config of Shapes with a proposal file of these classes, and perhaps a table."""

    def load(classes, table=None):
        cfg = recipe('reir_shapes')
        with ProposalWriter(tmp_path / 'proposals', dict(classes=classes)) as writer:
            writer.add('1', np.zeros((0, 4)), np.zeros(0), np.zeros(0))
        steps = cfg.train_dataloader.dataset.pipeline
        step = next(step for step in steps if step.type == 'LoadBoxProposals')
        step.proposal_file = str(tmp_path / 'proposals')
        if table:
            size = len(table)
            content = WordTable(torch.eye(size), torch.eye(size), table, table).dumps()
            (tmp_path / 'table.safetensors').write_bytes(content)
            path = str(tmp_path / 'table.safetensors')
            cfg.model.category_similarity = dict(type='CategorySimilarity', table=path)
        return cfg

    return load


def test_labels_must_be_the_categories_of_the_model(shapes):
    check_files(shapes(['Circle', 'square', 'triangle']), ('train',))


@pytest.mark.parametrize('table', [None, SHAPES])
def test_a_detector_of_other_classes_is_refused(shapes, table):
    owner = 'word table .*table.safetensors' if table else 'category_similarity of the config'
    message = (
        rf"proposals calls label 0 'person', but {owner} has 'circle' there; .*"
        r'build_reir_text.py --categories .*proposals'
    )
    cfg = shapes(['person', 'square', 'triangle'], table)
    with pytest.raises(ValueError, match=message):
        check_files(cfg, ('train',))
    check_files(cfg, ('val',))  # of another file


def test_nothing_is_asked_of_a_config_without_files(recipe):
    check_files(recipe('reir_shapes'), ('train', 'val', 'test'))
    cfg = Config(dict(model=dict(type='TransVG'), train_dataloader=None, load_from='none.pth'))
    check_files(cfg, ('train',))
