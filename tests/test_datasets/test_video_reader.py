"""Frame numbers, damaged files and folders of frames; every frame shows its own number."""

import struct
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmvg.datasets import VideoReader
from mmvg.datasets.video_file import VideoFile

GAPS = np.random.default_rng(0).choice([10, 33, 40, 120], 60)
STAMPS = np.cumsum(GAPS).tolist()
REORDERED = {'g': '12', 'bf': '3'}
FILES = {
    'plain.mp4': {},
    'reordered.mp4': dict(options=REORDERED),
    'open_gop.mp4': dict(options={**REORDERED, 'x264-params': 'open-gop=1'}),
    'short_gop.mp4': dict(options={'g': '3', 'bf': '2', 'x264-params': 'scenecut=0:b-adapt=0'}),
    'short_gop.mkv': dict(options={'g': '3', 'bf': '2', 'x264-params': 'scenecut=0:b-adapt=0'}),
    'intra_refresh.mp4': dict(options={'g': '12', 'x264-params': 'intra-refresh=1'}),
    'variable.mp4': dict(options=REORDERED, stamps=STAMPS),
    'variable.mkv': dict(options=REORDERED, stamps=STAMPS),
    'broadcast.ts': dict(options=REORDERED),
    'ntsc.mp4': dict(rate=Fraction(30000, 1001)),
    'no_stamps.avi': dict(options=REORDERED),  # no time of showing, reordered all the same
    'mpeg4.avi': dict(codec='mpeg4', options={'bf': '2', 'g': '12'}),
    'hidden.webm': dict(codec='libvpx', options={'auto-alt-ref': '1', 'lag-in-frames': '16'}),
    'vp9.webm': dict(codec='libvpx-vp9', options={'auto-alt-ref': '1', 'lag-in-frames': '16'}),
}


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def warnings_of(log):
    return [r.getMessage() for r in log.records if r.levelname == 'WARNING']


# --- frame numbers


@pytest.mark.parametrize('name', FILES)
def test_every_frame_is_found_by_its_number(name, videos):
    path = str(videos.write(name, 60, **FILES[name]))
    with VideoReader(path) as video:
        assert (video.num_frames, video.width, video.height) == (60, videos.width, videos.height)
        frames = video.read(range(60))
    assert [videos.number(f) for f in frames] == list(range(60))
    rng = np.random.default_rng(1)
    with VideoReader(path) as video:
        for _ in range(4):  # back and forth in an open file
            ids = rng.choice(60, 6)
            for frame_id, frame in zip(ids, video.read(ids), strict=True):
                np.testing.assert_array_equal(frame, frames[frame_id])
    for frame_id in (59, 13, 36):  # and straight after opening
        (frame,) = VideoReader(path).read([frame_id])
        np.testing.assert_array_equal(frame, frames[frame_id])


def test_positions_of_opencv_are_wrong_where_these_are_right(videos):
    """Why PyAV: OpenCV turns a frame number into a time by the mean rate."""
    path = str(videos.write('variable.mp4', 60, **FILES['variable.mp4']))
    capture, wrong = cv2.VideoCapture(path), 0
    for frame_id in range(59, 0, -7):
        capture.set(cv2.CAP_PROP_POS_FRAMES, frame_id)
        found, frame = capture.read()
        wrong += not found or videos.number(frame) != frame_id
    if not wrong:
        pytest.skip('this OpenCV has learned it: mmcv.VideoReader might do')
    ids = list(range(59, 0, -7))
    assert [videos.number(f) for f in VideoReader(path).read(ids)] == ids


@pytest.mark.parametrize('name', ['variable.mp4', 'variable.mkv'])
def test_time_stamps_of_a_variable_rate_are_those_that_were_written(name, videos):
    video = VideoReader(str(videos.write(name, 60, **FILES[name])))
    stamps = (np.array(STAMPS) - STAMPS[0]) / 1000
    np.testing.assert_allclose(video.timestamps, stamps, atol=1e-3)
    assert video.fps == pytest.approx(59 / stamps[-1], rel=1e-3)


@pytest.mark.parametrize('name', ['ntsc.mp4', 'no_stamps.avi'])
def test_time_stamps_of_a_constant_rate(name, videos):
    video = VideoReader(str(videos.write(name, 60, **FILES[name])))
    fps = 30000 / 1001 if name == 'ntsc.mp4' else 30
    assert video.fps == pytest.approx(fps, rel=1e-12)
    np.testing.assert_allclose(video.timestamps, np.arange(60) / fps, atol=1e-9)


def test_reading_on_does_not_start_again(videos, monkeypatch):
    path = str(videos.write('plain.mp4', 60, options={'g': '12'}))
    seeks, cursor_at = [], VideoFile._cursor_at
    monkeypatch.setattr(
        VideoFile, '_cursor_at', lambda self, i: seeks.append(i) or cursor_at(self, i)
    )
    video = VideoReader(path)
    for start in range(0, 27, 3):  # past key frames
        video.read(range(start, start + 3))
    assert seeks == [0]  # the first frame, when it was opened
    video.read([55])
    assert seeks == [0, 55]  # a jump skips the key frames between


def test_decoder_with_stamps_of_its_own_is_counted_from_the_start(videos):
    source = VideoFile(str(videos.write('plain.mp4', 30, options={'g': '12'})))
    source._ranks = {pts + 1: rank for pts, rank in source._ranks.items()}
    source._rewind()
    assert [(i, videos.number(f)) for i, f in source.images([4, 20])] == [(4, 4), (20, 20)]
    assert source.num_frames == 30 and len(source.timestamps) == 30


@pytest.mark.parametrize('degrees', [90, 180, 270])
def test_frames_are_turned_as_players_turn_them(degrees, videos):
    path = videos.write('turned.mp4', 6)
    content = bytearray(path.read_bytes())
    matrix = content.find(b'tkhd') + 44
    turn = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    a, b, c, d = (v << 16 for v in turn)
    content[matrix : matrix + 36] = struct.pack('>9i', a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    video = VideoReader(str(path))
    (frame,) = video.read([5])
    capture = cv2.VideoCapture(str(path))
    for _ in range(6):
        found, reference = capture.read()
    assert found and (video.height, video.width) == frame.shape[:2] == reference.shape[:2]
    assert (frame.shape[0] > frame.shape[1]) == (degrees != 180)
    assert np.abs(frame.astype(int) - reference).mean() < 2
    assert np.abs(frame[::-1, ::-1].astype(int) - reference).mean() > 20  # no other turn
    (stored,) = VideoReader(str(path), autorotate=False).read([5])
    assert videos.number(stored) == 5


# --- damaged files


@pytest.fixture
def indexed(videos):
    """A file of 120 frames with its index in front, so that its head is readable when cut."""
    path = videos.write(
        'whole.mp4', 120, options={'g': '12', 'bf': '2'}, container={'movflags': 'faststart'}
    )
    return path.read_bytes()


def damage(content, begin, end):
    noise = np.random.default_rng(0).bytes(len(content))
    return content[:begin] + noise[begin:end] + content[end:]


def test_cut_off_file_gives_its_head_and_one_warning(indexed, videos, log):
    path = videos.folder / 'cut.mp4'
    path.write_bytes(indexed[: int(len(indexed) * 0.7)])
    ids = list(range(0, 120, 5))
    for _ in range(2):  # a reader per sample, a warning per file
        frames = VideoReader(str(path)).read(ids)
    numbers = [videos.number(f) for f in frames]
    last = max(numbers)
    good = sum(i <= last for i in ids)
    assert good > 10 and numbers[:good] == ids[:good] and last - ids[good - 1] < 5
    assert set(numbers[good:]) == {last}
    (message,) = warnings_of(log)
    assert str(path) in message and 'last good frame' in message
    assert f'no frame {ids[good]},' in message or f'frame {ids[good]} cannot' in message
    with pytest.raises(ValueError, match=rf'cut\.mp4: .*frame {ids[good]}\b.*missing=.repeat'):
        VideoReader(str(path)).read(ids, missing='error')
    assert len(VideoReader(str(path)).read(ids[:good], missing='error')) == good


def test_damaged_tail_repeats_the_last_good_frame(indexed, videos, log):
    path = videos.folder / 'tail.mp4'
    path.write_bytes(damage(indexed, int(len(indexed) * 0.7), len(indexed)))
    frames = VideoReader(str(path)).read(range(120))
    numbers = [videos.number(f) for f in frames]
    last = numbers[-1]
    assert 60 < last < 100
    assert numbers[:60] == list(range(60))
    # Frames are stored in another order, so that a few before the last good one are lost, too.
    good = [i for i, number in enumerate(numbers) if number == i]
    assert numbers == [max(g for g in good if g <= i) for i in range(120)]
    assert len(warnings_of(log)) == 1
    # Any single frame of the tail, straight after opening, is the same.
    for frame_id in (119, 110):
        (frame,) = VideoReader(str(path)).read([frame_id])
        np.testing.assert_array_equal(frame, frames[last])


def test_damage_in_the_middle_does_not_shift_later_frames(indexed, videos):
    path = videos.folder / 'middle.mp4'
    middle = len(indexed) // 2
    path.write_bytes(damage(indexed, middle, middle + len(indexed) // 10))
    numbers = [videos.number(f) for f in VideoReader(str(path)).read(range(120))]
    wrong = [i for i, number in enumerate(numbers) if number != i]
    assert 0 < len(wrong) < 60 and max(wrong) < 119
    assert numbers[: wrong[0]] == list(range(wrong[0]))
    assert numbers[wrong[-1] + 1 :] == list(range(wrong[-1] + 1, 120))
    before = [i for i in wrong if numbers[i] == wrong[0] - 1]
    assert before  # the last good frame stood in


def test_frames_before_the_first_good_one_are_it(indexed, videos):
    path = videos.folder / 'head.mp4'
    start = indexed.find(b'mdat') + 4
    path.write_bytes(damage(indexed, start, start + 1200))
    video = VideoReader(str(path))
    numbers = [videos.number(f) for f in video.read([0, 1, 60])]
    assert numbers[0] == numbers[1] > 1 and numbers[2] == 60
    with pytest.raises(ValueError, match='frame 0 cannot be decoded'):
        video.read([0], missing='error')


def test_frames_beyond_the_end_are_the_last_one(videos, log):
    path = str(videos.write('short.mp4', 20))
    frames = VideoReader(path).read([3, 19, 20, 500])
    assert [videos.number(f) for f in frames] == [3, 19, 19, 19]
    (message,) = warnings_of(log)
    assert f'{path}: there is no frame 20, only 20 frames' in message
    with pytest.raises(ValueError, match='no frame 500, only 20 frames'):
        VideoReader(path).read([500], missing='error')


def test_no_frame_is_handed_out_twice(videos):
    frames = VideoReader(str(videos.write('short.mp4', 5))).read([2, 2, 9, 9, 4])
    assert len({f.ctypes.data for f in frames}) == 5
    assert all(f.flags.writeable and f.flags.c_contiguous for f in frames)


def test_one_frame(videos):
    video = VideoReader(str(videos.write('one.mp4', 1)))
    assert len(video) == 1 and video.timestamps.tolist() == [0.0] and video.fps == 30
    assert videos.number(video.read([0])[0]) == 0


def sound(path):
    av = pytest.importorskip('av')
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('pcm_s16le', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), 's16', 'mono')
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


@pytest.mark.parametrize(
    'make, match',
    [
        (lambda path: path.write_bytes(b''), 'cannot be opened as a video'),
        (lambda path: path.write_text('no video' * 99), 'cannot be opened as a video'),
        (sound, 'has no video stream'),
    ],
)
def test_what_is_no_video_is_an_error_that_names_it(make, match, tmp_path):
    pytest.importorskip('av')
    path = tmp_path / 'film.wav'
    make(path)
    with pytest.raises(ValueError, match=rf'film\.wav {match}'):
        VideoReader(str(path))


def test_file_cut_before_its_index_is_an_error(videos):
    path = videos.write('plain.mp4', 20)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r'plain\.mp4 cannot be opened as a video .*download'):
        VideoReader(str(path))


def test_file_without_a_good_frame_is_an_error(indexed, videos):
    path = videos.folder / 'noise.mp4'
    path.write_bytes(damage(indexed, indexed.find(b'mdat') + 4, len(indexed)))
    with pytest.raises(ValueError, match=r'none of the frames of .*noise\.mp4 can be decoded'):
        VideoReader(str(path))


def test_absent_file_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent\.mp4 does not exist.*data_prefix'):
        VideoReader(str(tmp_path / 'absent.mp4'))


def test_wrong_arguments(tmp_path):
    Image.new('RGB', (8, 6)).save(tmp_path / '1.png')
    video = VideoReader(str(tmp_path))
    with pytest.raises(ValueError, match='ids start at 0, got -1'):
        video.read([0, -1])
    with pytest.raises(ValueError, match="'repeat' or 'error'"):
        video.read([0], missing='skip')
    assert video.read([]) == []


def test_without_pyav_files_say_what_to_install_and_folders_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    (tmp_path / 'film.mp4').write_bytes(b'film')
    with pytest.raises(ImportError, match='pip install av'):
        VideoReader(str(tmp_path / 'film.mp4'))
    Image.new('RGB', (8, 6)).save(tmp_path / '1.png')
    assert VideoReader(str(tmp_path)).num_frames == 1


# --- folders of frames


@pytest.fixture
def folder(videos):
    path = videos.folder / 'frames'
    path.mkdir()
    for i in range(12):
        Image.fromarray(videos.picture(i)[..., ::-1]).save(path / f'img_{i + 1}.png')
    (path / 'Thumbs.db').write_bytes(b'no picture')
    return path


def test_folder_is_read_by_the_numbers_in_its_names(folder, videos):
    video = VideoReader(str(folder), fps=24)
    assert (len(video), video.fps, video.height, video.width) == (12, 24, 64, 120)
    np.testing.assert_allclose(video.timestamps, np.arange(12) / 24)
    frames = video.read([11, 0, 9])  # img_10 comes after img_9
    assert [videos.number(f) for f in frames] == [11, 0, 9]
    np.testing.assert_array_equal(frames[0], videos.picture(11))
    with pytest.raises(ValueError, match='has no time stamps; give fps'):
        VideoReader(str(folder)).timestamps  # noqa: B018


def test_damaged_picture_is_replaced_by_the_one_before(folder, videos, log):
    (folder / 'img_4.png').write_bytes((folder / 'img_4.png').read_bytes()[:60])
    (folder / 'img_1.png').write_bytes(b'')
    video = VideoReader(str(folder))
    assert [videos.number(f) for f in video.read([0, 2, 3, 4, 20])] == [1, 2, 2, 4, 11]
    assert len(warnings_of(log)) == 1
    with pytest.raises(ValueError, match=r'frames: frame 3 cannot be decoded'):
        video.read([2, 3], missing='error')


def test_folders_that_cannot_be_numbered_are_refused(folder, tmp_path):
    (folder / 'img_7.png').unlink()
    with pytest.raises(ValueError, match=r'img_8\.png comes where frame 7 is due'):
        VideoReader(str(folder))
    (folder / 'cover.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'cover\.png has no number'):
        VideoReader(str(folder))
    empty = tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(ValueError, match='empty has no frames'):
        VideoReader(str(empty))
    (empty / '1.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match='none of the frames in .*empty can be read'):
        VideoReader(str(empty)).read([0])


# --- real clips


@pytest.mark.parametrize(
    'name, count, fps, size',
    [
        ('mmaction2_test_video_structuralize', 300, 30000 / 1001, (426, 240)),
        ('mmaction2_demo', 280, 28, (340, 256)),
        ('mmdet_demo_mot', 8, 3, (1920, 1080)),
        ('mmdet_demo', 67, 30, (1280, 720)),
    ],
)
def test_real_clips(name, count, fps, size, samples):
    pytest.importorskip('av')
    path = str(samples / 'video_clips' / f'{name}.mp4')
    video = VideoReader(path)
    assert len(video) == count and (video.width, video.height) == size
    assert video.fps == pytest.approx(fps, rel=1e-4)
    ids = np.unique(np.linspace(0, count - 1, 8).round().astype(int))
    frames = video.read(ids)
    capture = cv2.VideoCapture(path)
    for i in range(count):  # in order OpenCV is right
        found, reference = capture.read()
        assert found
        if i in ids:
            frame = frames[ids.tolist().index(i)]
            assert np.abs(frame.astype(int) - reference).mean() < 2
    assert not capture.read()[0]
