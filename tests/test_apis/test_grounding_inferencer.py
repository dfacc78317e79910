import argparse
import copy
import json

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmvg.apis import GroundingInferencer
from mmvg.apis.inference import pair_texts

QUERIES = ['the red circle', 'the left shape', 'the largest striped triangle']


@pytest.fixture(scope='module')
def cfg(repository) -> Config:
    """The Shapes recipe; its test pipeline takes pictures of any size."""
    cfg = Config.fromfile(str(repository / 'configs/transvg/transvg_shapes.py'))
    return cfg


@pytest.fixture(scope='module')
def inferencer(cfg) -> GroundingInferencer:
    torch.manual_seed(0)
    return GroundingInferencer(cfg, device='cpu')


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp('pictures')
    rng = np.random.RandomState(0)
    paths = [str(folder / name) for name in ('a.png', 'b.jpg', 'c.png')]
    for path, size in zip(paths, [(90, 120), (64, 64), (150, 100)], strict=True):
        mmcv.imwrite(rng.randint(0, 256, (*size, 3), dtype=np.uint8), path)
    (folder / 'notes.txt').write_text('not a picture')
    return paths


@pytest.mark.parametrize(
    ('num_images', 'texts', 'expected'),
    [
        (1, 'a', [['a']]),
        (1, ['a', 'b'], [['a', 'b']]),
        (1, [['a', 'b']], [['a', 'b']]),
        (3, 'a', [['a'], ['a'], ['a']]),
        (3, ['a'], [['a'], ['a'], ['a']]),
        (2, ['a', 'b'], [['a'], ['b']]),
        (2, [['a', 'b'], ['c']], [['a', 'b'], ['c']]),
        (2, ['a', ('b', 'c')], [['a'], ['b', 'c']]),
    ],
)
def test_texts_are_paired_with_images(num_images, texts, expected):
    assert pair_texts(num_images, texts) == expected


@pytest.mark.parametrize(
    ('num_images', 'texts', 'message'),
    [
        (3, ['a', 'b'], '3 images but 2 texts'),
        (1, [['a'], ['b']], '1 images but 2 texts'),
        (2, [['a'], []], 'image 1 has no text'),
        (2, ['a', '  '], "text '  ' of image 1 is empty"),
        (1, '', "text '' of image 0 is empty"),
        (1, [['a', 7]], 'text 7 of image 0'),
        (1, [], 'image 0 has no text'),
    ],
)
def test_unusable_texts_are_refused(num_images, texts, message):
    with pytest.raises(ValueError, match=message):
        pair_texts(num_images, texts)


def test_queries_of_an_image_equal_single_calls(inferencer, pictures):
    together = inferencer(pictures[0], QUERIES)['predictions'][0]
    assert together['queries'] == QUERIES
    assert len(together['scores']) == 3
    single = [inferencer(pictures[0], q)['predictions'][0]['bboxes'][0] for q in QUERIES]
    boxes = torch.tensor(together['bboxes'])
    torch.testing.assert_close(boxes / 120, torch.tensor(single) / 120, atol=1e-5, rtol=0)
    assert (boxes[0] - boxes[1]).abs().max() > 0.01, 'the text makes no difference: weak test'


def test_batching_does_not_change_the_answers(inferencer, pictures):
    one = inferencer(pictures, QUERIES, batch_size=1)['predictions']
    two = inferencer(pictures, QUERIES, batch_size=2)['predictions']
    assert [p['image'] for p in two] == pictures
    assert [p['queries'] for p in two] == [[q] for q in QUERIES]
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(
            torch.tensor(a['bboxes']) / 150, torch.tensor(b['bboxes']) / 150, atol=1e-5, rtol=0
        )


def test_paths_folders_and_arrays_give_the_same(inferencer, pictures):
    arrays = [mmcv.imread(p) for p in pictures]
    by_array = inferencer(arrays, 'the red circle')['predictions']
    by_path = inferencer(pictures, 'the red circle')['predictions']
    folder = pictures[0].rsplit('/', 1)[0]
    by_folder = inferencer(folder, 'the red circle')['predictions']
    assert by_folder == by_path
    for i in (0, 2):  # JPEG decoders may differ by a grey level, PNG ones do not
        assert by_array[i]['bboxes'] == by_path[i]['bboxes']
    assert [p['image'] for p in by_array] == ['array_0000', 'array_0001', 'array_0002']


def test_grey_arrays_are_taken_as_colour(inferencer):
    grey = np.random.RandomState(1).randint(0, 256, (64, 64), dtype=np.uint8)
    colour = np.stack([grey] * 3, axis=2)
    boxes = [inferencer(a, 'the red circle')['predictions'][0]['bboxes'] for a in (grey, colour)]
    assert boxes[0] == boxes[1]


def test_boxes_are_in_original_pixels(inferencer, pictures):
    """Enlarging a picture by a whole factor moves its boxes by the same factor."""
    image = mmcv.imread(pictures[1])
    large = mmcv.imresize(image, (192, 192), interpolation='nearest')
    # Undo the smoothing of the way back to 64 px: compare on a picture that has none.
    image[:], large[:] = 128, 128
    small_box = inferencer(image, 'the red circle')['predictions'][0]['bboxes'][0]
    large_box = inferencer(large, 'the red circle')['predictions'][0]['bboxes'][0]
    assert large_box == pytest.approx([3 * v for v in small_box], abs=1e-2)


def test_every_question_has_its_own_picture(inferencer, pictures, tmp_path):
    out = str(tmp_path / 'out')
    first = inferencer(
        [pictures[0]] * 3, ['the red circle', 'ein größerer Kreis', '左边'], out_dir=out
    )
    second = inferencer(pictures[0], ['the red circle', 'the left shape'], out_dir=out)
    twice = inferencer([pictures[0]] * 2, 'the blue circle', out_dir=out)
    paths = first['visualization'] + second['visualization'] + twice['visualization']
    assert len(paths) == len(set(paths)) == 6
    assert sorted(paths) == sorted(str(p) for p in (tmp_path / 'out').glob('*.jpg'))
    assert mmcv.imread(paths[0]).shape[1] == 3 * 120  # enlarged to 320 px or more
    again = inferencer(pictures[0], ['the red circle', 'the left shape'], out_dir=out)
    assert again['visualization'] == second['visualization']
    assert [p['picture'] for p in first['predictions']] == first['visualization']
    written = json.loads((tmp_path / 'out' / 'predictions.json').read_text(encoding='utf-8'))
    assert written == again['predictions']  # those of the last call


def test_missing_files_are_named(cfg, inferencer, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.jpg does not exist'):
        inferencer(str(tmp_path / 'nowhere.jpg'), 'a circle')
    with pytest.raises(FileNotFoundError, match='has no picture'):
        inferencer(str(tmp_path), 'a circle')
    with pytest.raises(FileNotFoundError, match=r'none\.pth does not exist; train one'):
        GroundingInferencer(cfg, str(tmp_path / 'none.pth'))
    with pytest.raises(FileNotFoundError, match='did you mean transvg_shapes'):
        GroundingInferencer('transvg_shape')
    with pytest.raises(ValueError, match='of videos; give --videos, in Python take VideoGrounding'):
        GroundingInferencer('vcma_shapes')


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((8, 8, 4), np.uint8), r'shape \(8, 8, 4\)'),
        (np.zeros((8, 8, 3), np.float32), 'float32 array'),
        (None, 'NoneType'),
    ],
)
def test_unusable_arrays_are_refused(inferencer, image, message):
    with pytest.raises(ValueError, match=message):
        inferencer([image], 'a circle')


def test_cut_off_picture_is_named(inferencer, pictures, tmp_path):
    cut = tmp_path / 'cut.jpg'
    with open(pictures[1], 'rb') as f:
        cut.write_bytes(f.read()[:400])
    with pytest.raises(ValueError, match='cut.jpg cannot be read'):
        inferencer(str(cut), 'a circle')


def test_empty_calls_are_refused(inferencer, pictures):
    with pytest.raises(ValueError, match='no image given'):
        inferencer([], 'a circle')
    with pytest.raises(ValueError, match='batch_size'):
        inferencer(pictures, 'a circle', batch_size=0)


def save(inferencer, path, edit=lambda state: state) -> str:
    state = {k: v.clone() for k, v in inferencer.model.state_dict().items()}
    torch.save(dict(state_dict=edit(state), meta={}), path)
    return str(path)


def test_weights_are_loaded(cfg, inferencer, pictures, tmp_path):
    path = save(inferencer, tmp_path / 'model.pth')
    torch.manual_seed(1)
    loaded = GroundingInferencer(cfg, path, device='cpu')
    answers = [i(pictures[0], QUERIES)['predictions'] for i in (inferencer, loaded)]
    assert answers[0] == answers[1]


def test_checkpoint_of_another_text_length_is_refused(cfg, tmp_path):
    longer = copy.deepcopy(cfg)
    longer.model.bbox_head.max_query_len = 20
    path = save(GroundingInferencer(longer, device='cpu'), tmp_path / 'longer.pth')
    with pytest.raises(ValueError, match=r'max_query_len 14(.|\n)*max_query_len 20'):
        GroundingInferencer(cfg, path, device='cpu')


def test_checkpoints_of_other_models_are_refused(cfg, inferencer, tmp_path):
    path = save(inferencer, tmp_path / 'other.pth', lambda s: {f'x.{k}': v for k, v in s.items()})
    with pytest.raises(ValueError, match='no weight of this model'):
        GroundingInferencer(cfg, path, device='cpu')
    wider = copy.deepcopy(cfg)
    wider.model.bbox_head.feedforward_channels = 32
    with pytest.raises(ValueError, match='another shape for'):
        GroundingInferencer(wider, save(inferencer, tmp_path / 'wide.pth'), device='cpu')


def test_incomplete_checkpoints_are_refused(cfg, inferencer, tmp_path):
    """As the one of an R50 in the config of an R101: nothing may stay random."""
    deeper = copy.deepcopy(cfg)
    deeper.model.bbox_head.num_layers = 5
    path = save(inferencer, tmp_path / 'shallow.pth')
    with pytest.raises(
        ValueError, match=r'shallow.pth lacks 12 weights of this model \(bbox_head.fusion.layers.4'
    ):
        GroundingInferencer(deeper, path, device='cpu')


def test_unused_buffers_may_be_absent_and_names_prefixed(cfg, inferencer, tmp_path):
    def strip(state):
        kept = {k: v for k, v in state.items() if 'num_batches_tracked' not in k}
        assert len(kept) < len(state)
        return {f'module.{k}': v for k, v in kept.items()}

    path = save(inferencer, tmp_path / 'module.pth', strip)
    loaded = GroundingInferencer(cfg, path, device='cpu').model.state_dict()
    for name, tensor in inferencer.model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_unreadable_checkpoints_are_explained(cfg, inferencer, tmp_path):
    whole = tmp_path / 'whole.pth'
    save(inferencer, whole)
    for size in (0, 5, 1000, whole.stat().st_size - 100):
        cut = tmp_path / f'cut_{size}.pth'
        cut.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(ValueError, match=f'cut_{size}.pth cannot be read .*copy or download'):
            GroundingInferencer(cfg, str(cut), device='cpu')
    torch.save([torch.ones(1)], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='list.pth has no state_dict but a list'):
        GroundingInferencer(cfg, str(tmp_path / 'list.pth'), device='cpu')


@pytest.mark.parametrize('extra', [dict(args=argparse.Namespace(lr=1e-4)), dict(epoch=89)])
def test_official_checkpoints_are_sent_to_the_converter(cfg, tmp_path, extra):
    path = tmp_path / 'TransVG_unc.pth'
    torch.save(dict(model={'reg_token.weight': torch.ones(1, 256)}, **extra), path)
    with pytest.raises(ValueError, match=r'TransVG_unc.pth .*tools/model_converters/transvg\.py'):
        GroundingInferencer(cfg, str(path), device='cpu')


def test_no_picture_is_left_out(cfg, tmp_path):
    """The recipe's loader may skip samples; here every picture gets an answer or an error."""
    skipping = copy.deepcopy(cfg)
    skipping.test_dataloader.dataset.datasets[0].pipeline[0].ignore_empty = True
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no picture')
    with pytest.raises(ValueError, match='broken.jpg cannot be read'):
        GroundingInferencer(skipping, device='cpu')(str(broken), 'a circle')


def test_configs_are_found_by_name(repository):
    from mmvg.apis.start_up import find_config

    expected = (repository / 'configs/transvg/transvg_shapes.py').resolve()
    for name in ('transvg_shapes', 'mmvg::transvg/transvg_shapes.py', expected):
        assert find_config(name).resolve() == expected
