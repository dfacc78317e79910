"""The small CLIP for Shapes: its pairs, its training, and the weights that come with mmvg."""

import random
import runpy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

from mmvg.datasets.shapes import Scene, Shape
from mmvg.datasets.shapes.scene import COLOURS, KINDS
from mmvg.text.tokenizer import build_tokenizer

open_clip = pytest.importorskip('open_clip')


@pytest.fixture(scope='module')
def tool(repository):
    return runpy.run_path(str(repository / 'tools/misc/train_shapes_clip.py'))


@pytest.fixture(scope='module')
def cfg(repository):
    return Config.fromfile(repository / 'configs/_base_/models/shapes_clip.py').shapes_clip


@pytest.fixture(scope='module')
def examples(tool):
    return tool['make_examples']('teacher', 100)


@pytest.fixture(scope='module')
def teacher(cfg):
    """With the weights that come with mmvg."""
    return MODELS.build(cfg)


def test_captions_tell_what_is_asked_for(tool):
    circle = Shape('circle', 'red', 'striped', 'small', 12, 50, 7)
    square = Shape('square', 'blue', 'plain', 'large', 32, 20, 12)
    scene = Scene(64, (circle, square), 0)
    rng = random.Random(0)
    captions = {tool['caption'](rng, scene, ('row', 'column', 'colour', 'kind')) for _ in range(20)}
    one, two = 'bottom left red circle', 'top blue square'
    assert captions == {f'{one} {two}', f'{two} {one}'}
    alone = replace(scene, shapes=(circle,))
    assert tool['caption'](rng, alone, ('size', 'texture')) == 'small striped shape'


def test_pairs_are_pictures_and_texts_within_vocabulary_and_context(tool, cfg, examples):
    tokenizer = build_tokenizer(cfg.tokenizer)
    rng = random.Random(0)
    for example in examples * 10:
        picture, text = tool['make_pair'](rng, example)
        ids = tokenizer.encode(text)
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        assert len(ids) <= cfg.config.text_cfg.context_length
        assert tokenizer._tokenizer.token_to_id('[UNK]') not in ids


def test_longest_caption_fits_the_context(tool, cfg):
    shape = Shape('square', 'yellow', 'striped', 'large', 5, 5, 4)
    scene = Scene(64, (shape,) * 4, 0)
    caption = tool['caption'](random.Random(0), scene, ('row', 'texture', 'kind'))
    count = build_tokenizer(cfg.tokenizer).num_pieces(caption)
    assert count == 12 + 0
    assert count + 2 <= cfg.config.text_cfg.context_length


def test_pairs_half_of_which_are_mirrored(tool):
    shape = Shape('square', 'red', 'plain', 'large', 16, 32, 12)
    example = tool['Example'](Scene(64, (shape,), 0), ((shape, 'the left square', 'location'),))
    rng = random.Random(0)
    for _ in range(50):
        picture, text = tool['make_pair'](rng, example)
        red = picture.astype(int)[32, :, 0] - picture.astype(int)[32, :, 1] > 60
        if 'left' in text or 'right' in text:
            assert red[:32].any() == ('left' in text) and red[32:].any() == ('right' in text)


def test_no_scene_of_the_student(tool, examples):
    for split in ('train', 'val', 'test'):
        other = DATASETS.build(
            dict(type='ShapesGroundingDataset', split=split, num_scenes=100, lazy_init=True)
        )
        others = [tuple(Shape(**s) for s in r['scene']['shapes']) for r in other.load_data_list()]
        assert not {e.scene.shapes for e in examples} & set(others)


def test_loss_falls_and_follows_from_the_seed(tool, cfg, examples):
    def losses(seed):
        torch.manual_seed(seed)
        teacher = MODELS.build({**cfg, 'pretrained': None, 'trainable': True})
        return tool['train'](teacher, examples, 24, 32, 2e-3, seed)

    first = losses(0)
    assert first[0] > np.log(32) - 0.5  # chance
    assert np.mean(first[-4:]) < np.mean(first[:4]) - 0.3
    assert losses(0) == first
    assert losses(1) != first


def test_command_writes_weights_of_the_config(cfg, call_tool, tmp_path):
    from safetensors.torch import load_file

    out = tmp_path / 'folder' / 'clip.safetensors'
    size = ('--steps', 2, '--batch-size', 8, '--num-scenes', 16, '--num-unseen', 100)
    output = call_tool('misc/train_shapes_clip.py', *size, '--out', out)
    assert f'weights: {out}' in output and 'recall@1' in output
    open_clip.CLIP(**cfg.config.to_dict()).load_state_dict(load_file(out))
    rated = call_tool('misc/train_shapes_clip.py', '--rate', out, '--num-unseen', 100)
    assert rated.strip() == output[output.index('recall@1') :].strip()


def test_command_refuses_a_batch_larger_than_the_set(fail_tool):
    line = fail_tool('misc/train_shapes_clip.py', '--batch-size', 8, '--num-scenes', 4)
    assert '--batch-size is 8, --num-scenes 4' in line
    assert '--num-unseen must be 1 or more' in fail_tool(
        'misc/train_shapes_clip.py', '--num-unseen', 0
    )


def test_shipped_weights_are_small_and_fit_open_clip(repository, cfg):
    from safetensors.torch import load_file

    path = repository / 'configs/epmvg/shapes_clip.safetensors'
    assert path.stat().st_size < 2e6
    open_clip.CLIP(**cfg.config.to_dict()).load_state_dict(load_file(path))


def test_shipped_teacher_finds_unseen_scenes_and_captions(tool, teacher):
    unseen = tool['make_examples']('teacher-unseen', 200)
    for found in tool['rate_retrieval'](teacher, unseen).values():
        assert min(found) > 40  # chance 1, measured about 80
    accuracy = tool['rate_reference'](teacher, unseen[:100])
    assert accuracy['attribute'][0] > 75  # chance about 33


def test_shipped_teacher_sees_what_words_mean(tool, teacher):
    """Among pictures of one shape and phrases for each colour and kind, the diagonal wins."""
    names = list(product(COLOURS, KINDS))
    shapes = [Shape(kind, colour, 'plain', 'large', 32, 32, 12) for colour, kind in names]
    pictures = tool['to_tensor']([tool['draw'](Scene(64, (s,), 0)) for s in shapes])
    texts = [f'the {colour} {kind}' for colour, kind in names]
    scores = teacher.encode_images(pictures) @ teacher.encode_texts(texts).T
    assert (scores.argmax(1) == torch.arange(12)).sum() >= 11
    assert (scores.argmax(0) == torch.arange(12)).sum() >= 11


def test_shipped_teacher_separates_colours_and_kinds(teacher):
    def cosine(one, two):
        first, second = teacher.encode_texts([one, two])
        return float(first @ second)

    for colour, kind in product(COLOURS, KINDS):
        phrase = f'the {colour} {kind}'
        paraphrase = cosine(phrase, f'the plain {colour} {kind}')
        others = [f'the {c} {kind}' for c in COLOURS if c != colour]
        others += [f'the {colour} {k}' for k in KINDS if k != kind]
        assert paraphrase > max(cosine(phrase, other) for other in others)
