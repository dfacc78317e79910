import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from PIL import Image
from torchvision.transforms import v2

from mmvg.datasets.transforms import AddTeacherView, PackGroundingInputs
from mmvg.datasets.transforms.square_view import CLIP_MEAN_COLOUR, square_view


def rgb(results):
    return Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))


def test_letterbox_keeps_the_whole_picture(make_results):
    results = make_results(300, 400)
    view = AddTeacherView(64)(dict(results))['teacher_view']
    assert view.shape == (64, 64, 3) and view.dtype == np.uint8
    np.testing.assert_array_equal(view[8:56], rgb(results).resize((64, 48), Image.BICUBIC))
    assert (view[:8] == CLIP_MEAN_COLOUR).all() and (view[56:] == CLIP_MEAN_COLOUR).all()


def test_odd_rests_and_thin_pictures(make_results):
    view = AddTeacherView(32)(make_results(200, 129))['teacher_view']  # 21 px wide: 5 and 6 left
    filled = (view == CLIP_MEAN_COLOUR).all((0, 2))
    assert filled.tolist() == [True] * 5 + [False] * 21 + [True] * 6
    assert AddTeacherView(32)(make_results(3, 1000))['teacher_view'].shape == (32, 32, 3)


def test_centre_crop_is_that_of_clip(make_results):
    open_clip = pytest.importorskip('open_clip')
    results = make_results(300, 401)
    view = AddTeacherView(64, 'clip_center_crop')(dict(results))['teacher_view']
    transform = open_clip.image_transform(64, False, mean=(0, 0, 0), std=(1, 1, 1))
    np.testing.assert_array_equal(view, (transform(rgb(results)) * 255).byte().permute(1, 2, 0))


@pytest.mark.parametrize('preproc', ['letterbox', 'clip_center_crop'])
@pytest.mark.parametrize('shape', [(300, 401), (50, 31)])
def test_tensors_and_pictures_are_cut_alike(make_results, preproc, shape):
    # Without full black and white: there Pillow cuts off what overshoots after each axis.
    picture = rgb(make_results(*shape)).point(lambda value: 64 + value // 2)
    images = v2.functional.pil_to_tensor(picture)[None].float()
    view = square_view(images, 64, preproc)[0].clamp(0, 255)
    expected = v2.functional.pil_to_tensor(square_view(picture, 64, preproc))
    assert (view - expected).abs().max() <= 1.5  # Pillow rounds after each axis


def test_key_tells_views_apart(make_results):
    def key(results, *args):
        return AddTeacherView(*args)(results)['teacher_key']

    results = make_results()
    assert key(dict(results), 32) == key(make_results(), 32)
    others = [key(dict(results), 33), key(dict(results), 32, 'clip_center_crop')]
    changed = results['img'].copy()
    changed[:16, :16] ^= 128
    others += [key(dict(results, img=changed), 32), key(dict(results), 32)]
    assert len(set(others)) == 4
    assert [k.split(':')[0] for k in others[:2]] == ['letterbox', 'clip_center_crop']


def test_random_transforms_leave_it_and_it_is_packed(make_results):
    torch.manual_seed(0)
    results = AddTeacherView(32)(make_results())
    view, key, image = results['teacher_view'].copy(), results['teacher_key'], results['img'].copy()
    for config in (dict(type='PillowColorJitter'), dict(type='PlaceOnCanvas', size=640)):
        results = TRANSFORMS.build(config)(results)
    assert results['img'].shape != image.shape
    sample = PackGroundingInputs()(results)['data_samples']
    np.testing.assert_array_equal(sample.teacher_view, view)
    assert sample.teacher_key == key
    assert 'teacher_view' not in PackGroundingInputs()(make_results())['data_samples']


def test_wrong_arguments():
    with pytest.raises(ValueError, match='preproc'):
        AddTeacherView(preproc='content')
    with pytest.raises(ValueError, match='size'):
        AddTeacherView(0)
