import pytest

from mmvg.datasets.video_annotation_files import find_files, locate_videos, read_json


def test_files_are_found_in_folders_below(tmp_path):
    for name in ('a.json', '0001/b.JSON', '0000/b.json', 'deep/0002/c.json', 'd.txt', 'a/x.json'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('')
    found = find_files(str(tmp_path), {'a', 'b', 'c', 'd', 'e'}, ('.json',))
    expected = {'a': 'a.json', 'b': '0000/b.json', 'c': 'deep/0002/c.json'}
    assert found == {k: str(tmp_path / v) for k, v in expected.items()}
    assert find_files(str(tmp_path / 'absent'), {'a'}, ('.json',)) == {}


def test_videos_are_files_or_folders_of_frames(tmp_path):
    (tmp_path / '0000' / 'v1').mkdir(parents=True)
    (tmp_path / '0000' / 'v1' / 'v2.mp4').write_bytes(b'')  # folders of frames are not searched
    (tmp_path / 'v3.MKV').write_bytes(b'')
    (tmp_path / 'v4.json').write_bytes(b'')
    found = locate_videos(str(tmp_path), ['v1.mp4', 'v2', 'v3', 'v4', 'v5.webm', 'v.6'])
    expected = {
        'v1.mp4': '0000/v1',
        'v2': 'v2.mp4',
        'v3': 'v3.MKV',
        'v4': 'v4.mp4',
        'v5.webm': 'v5.webm',
        'v.6': 'v.6.mp4',
    }
    assert found == {k: str(tmp_path / v) for k, v in expected.items()}


def test_errors_say_what_a_file_should_be(tmp_path):
    path = tmp_path / 'val.json'
    args = str(path), list, 'a list of things', 'example.org'
    with pytest.raises(FileNotFoundError, match=r'val\.json does not exist.*things.*example'):
        read_json(*args)
    path.write_bytes(b'\xef\xbb\xbf["caf\xc3\xa9"]')
    assert read_json(*args) == ['café']
    for content in (b'[1,', b'["\xff"]'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'val\.json is no JSON file.*things.*example'):
            read_json(*args)
    path.write_text('{}')
    with pytest.raises(ValueError, match=r'val\.json holds a dict, but should be a list of things'):
        read_json(*args)
