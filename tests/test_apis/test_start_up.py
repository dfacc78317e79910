"""Names of configs and work dirs, and what is said about missing things."""

from types import SimpleNamespace

import pytest

from mmvg.apis import check_first_picture, check_together, load_config
from mmvg.apis.start_up import find_config


@pytest.mark.parametrize(
    'name, path',
    [
        ('transvg_shapes', 'transvg/transvg_shapes.py'),
        ('transvg_r50_refcoco', 'transvg/transvg_r50_refcoco.py'),
        ('qrnet_swin_refcoco', 'qrnet/qrnet_swin_refcoco.py'),
        ('epmvg/qrnet_swin_refcoco', 'epmvg/qrnet_swin_refcoco.py'),
        ('mmvg::epmvg/transvg_r50_refcoco.py', 'epmvg/transvg_r50_refcoco.py'),
        ('epmvg_loc2', 'epmvg/ablations/epmvg_loc2.py'),
    ],
)
def test_a_bare_name_means_the_method_that_it_begins_with(name, path, repository):
    assert find_config(name).resolve() == (repository / 'configs' / path).resolve()


def test_no_two_configs_share_a_work_dir(repository, tmp_path):
    configs = [p for p in (repository / 'configs').rglob('*.py') if '_base_' not in p.parts]
    work_dirs = {load_config(path).work_dir: path for path in configs}
    assert len(work_dirs) == len(configs)
    assert work_dirs['work_dirs/qrnet_swin_refcoco'].parent.name == 'qrnet'
    assert work_dirs['work_dirs/epmvg_qrnet_swin_refcoco'].parent.name == 'epmvg'
    copied = tmp_path / 'qrnet_swin_refcoco.py'
    copied.write_text('model = dict()')
    assert load_config(copied).work_dir == 'work_dirs/qrnet_swin_refcoco'


def fail(error):
    def check():
        raise error

    return check


def test_one_problem_is_told_as_it_is():
    check_together([lambda: None])
    for error in (FileNotFoundError('a is missing'), ImportError('a is missing')):
        with pytest.raises(ValueError, match='^a is missing$'):
            check_together([lambda: None, fail(error), fail(error)])


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError) as caught:
        check_together([fail(FileNotFoundError('a\nb')), fail(ValueError('c'))])
    assert str(caught.value).splitlines()[1:] == ['- a', '- b', '- c']


def test_a_line_that_two_checks_give_is_told_once():
    with pytest.raises(ValueError) as caught:
        check_together([fail(FileNotFoundError('a\nb')), fail(FileNotFoundError('b\nc'))])
    assert str(caught.value).splitlines()[1:] == ['- a', '- b', '- c']


def test_a_bug_is_not_taken_for_something_missing():
    with pytest.raises(KeyError):
        check_together([fail(KeyError('x'))])


@pytest.mark.parametrize('extra', [dict(img=0), dict(img_path='s3://bucket/1.jpg'), dict()])
def test_the_first_picture_is_looked_for(extra, tmp_path):
    record = dict(img_path=str(tmp_path / '1.jpg'))
    dataset = SimpleNamespace(get_data_info=lambda index: {**record, **extra})
    if not extra:
        with pytest.raises(FileNotFoundError, match='1.jpg, the first picture'):
            check_first_picture(dataset)
        (tmp_path / '1.jpg').touch()
    check_first_picture(dataset)
    check_first_picture([record])  # a data set of another kind
