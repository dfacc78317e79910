import numpy as np
import pytest
from PIL import Image

from mmvg.datasets.transforms import LoadGroundingImage


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / 'a.jpg'
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (48, 1, 3))
    ramp[..., 0] = 200  # red, in RGB
    Image.fromarray(ramp).save(path, quality=95)
    return path


def load(path, **record):
    return LoadGroundingImage()(dict(img_path=str(path), source='list.jsonl:3', **record))


def test_loads_bgr_with_neutral_geometry(picture):
    out = load(picture)
    expected = np.asarray(Image.open(picture))[..., ::-1]
    np.testing.assert_array_equal(out['img'], expected)
    assert out['img'].flags.c_contiguous
    assert out['img_shape'] == out['ori_shape'] == (48, 64)
    assert out['scale_factor'] == (1.0, 1.0)
    assert out['flip'] is False and out['flip_direction'] is None


@pytest.mark.parametrize(
    'mode, suffix',
    [
        ('L', 'jpg'),
        ('L', 'png'),
        ('CMYK', 'jpg'),
        ('P', 'png'),
        ('RGBA', 'png'),
        ('LA', 'png'),
        ('1', 'png'),
    ],
)
def test_other_modes_become_three_channels(picture, tmp_path, mode, suffix):
    path = tmp_path / f'{mode}.{suffix}'
    Image.open(picture).convert(mode).save(path)
    out = load(path)
    assert out['img'].shape == (48, 64, 3) and out['img'].dtype == np.uint8
    if mode == 'L':
        assert (out['img'][..., 0] == out['img'][..., 2]).all()


def test_exif_orientation_as_in_mmdet(picture, tmp_path):
    path = tmp_path / 'rotated.jpg'
    image = Image.open(picture)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    assert load(path)['img_shape'] == (64, 48)
    stored = LoadGroundingImage(color_type='color_ignore_orientation')
    assert stored(dict(img_path=str(path)))['img_shape'] == (48, 64)


def test_passes_generated_images(tmp_path):
    img = np.zeros((5, 6, 3), np.uint8)
    out = load(tmp_path / 'none.jpg', img=img)
    assert out['img_shape'] == (5, 6)
    with pytest.raises(ValueError, match='H x W x 3'):
        load(tmp_path / 'none.jpg', img=img[..., 0])


def test_missing_file_names_record_file_and_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'list.jsonl:3: image .*none.jpg .* data_root'):
        load(tmp_path / 'none.jpg')


def damage(picture, kind):
    content = picture.read_bytes()
    bad = {'empty': b'', 'text': b'<html>404</html>', 'cut': content[: len(content) // 2]}[kind]
    path = picture.with_name(f'{kind}.jpg')
    path.write_bytes(bad)
    return path


@pytest.mark.parametrize('kind', ['empty', 'text', 'cut'])
def test_broken_file_names_record_file_and_remedy(picture, kind):
    path = damage(picture, kind)
    with pytest.raises(
        ValueError, match=rf'list.jsonl:3: image .*{kind}.jpg cannot be read.*again'
    ):
        load(path)


def test_folder_is_no_picture(tmp_path):
    with pytest.raises(ValueError, match='cannot be read'):
        load(tmp_path)


def test_size_must_be_the_annotated_one(picture):
    assert load(picture, height=48, width=64)['img_shape'] == (48, 64)
    with pytest.raises(ValueError, match='64 x 48 but the annotation says 48 x 64'):
        load(picture, height=64, width=48)


def test_ignore_empty_leaves_out_with_a_warning(picture, monkeypatch):
    from mmengine.logging import MMLogger

    warnings = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', warnings.append)
    out = LoadGroundingImage(ignore_empty=True)(dict(img_path=str(damage(picture, 'cut'))))
    assert out is None
    assert len(warnings) == 1 and 'cut.jpg' in warnings[0]
