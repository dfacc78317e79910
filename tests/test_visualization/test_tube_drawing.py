import numpy as np
import pytest

from mmvg.datasets import VideoReader
from mmvg.visualization.clip_writer import ClipWriter
from mmvg.visualization.colours import query_colour
from mmvg.visualization.tube_drawing import (
    TubeDrawing,
    choose_key_frames,
    fit,
    format_time,
    place_on_bar,
)

GREEN = query_colour(0)
GREY = 100
DARK = 45  # of GREY, outside of the span


@pytest.fixture
def drawing():
    """Ten frames of 400 x 300, half a second each; the span is frames 4 and 5."""
    bboxes = [[100, 50, 200, 150], [120, 50, 220, 150]]
    times = np.arange(11) / 2
    return TubeDrawing('a dog runs after a ball.', (4, 6), bboxes, times, (400, 300), 'score 0.50')


def image(size=(400, 300)):
    return np.full((*size[::-1], 3), GREY, np.uint8)


@pytest.mark.parametrize(
    ('num_frames', 'span', 'expected'),
    [
        (1, (0, 1), [0]),
        (5, (1, 3), [0, 1, 2, 3, 4]),
        (100, (40, 45), [0, 20, 40, 42, 44, 71, 85, 99]),
        (100, (0, 100), [0, 24, 36, 49, 61, 74, 86, 99]),
    ],
)
def test_key_frames_are_the_ends_and_fill_the_gaps(num_frames, span, expected):
    assert choose_key_frames(num_frames, span) == expected


def test_bar_is_linear_in_time():
    times = [2.0, 2.1, 5.0, 6.0]  # of frames at uneven distances
    assert [place_on_bar(t, times, 113) for t in (2, 4, 6)] == [6, 56, 106]
    assert place_on_bar(0.0, [0.0, 0.0], 100) == 6


def test_bar_of_a_clip_has_the_span_and_the_cursor(drawing):
    frame = drawing.clip_frame(image(), 8)
    bar = frame[300 + 10]  # 2.0 s to 3.0 s of 5 s, on 388 px from px 6 on
    coloured = np.flatnonzero((bar == GREEN).all(1))
    assert (coloured[0], coloured[-1]) == (
        place_on_bar(2, drawing.times, 400),
        6 + round(387 * 0.6),
    )
    (cursor,) = np.flatnonzero((bar > 230).all(1))[[1]]
    assert cursor == place_on_bar(4.0, drawing.times, 400)


def test_frames_inside_have_a_box_and_others_are_dark(drawing):
    assert [drawing.is_inside(i) for i in (3, 4, 5, 6)] == [False, True, True, False]
    outside = drawing.clip_frame(image(), 3)[:300, :400]
    assert (outside == DARK).all()
    for frame_id, left in ((4, 100), (5, 120)):
        inside = drawing.clip_frame(image(), frame_id)[:300, :400]
        rows, columns = np.nonzero((inside == GREEN).all(2))
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == (left, 50, left + 100, 150)
        assert (inside[100, 150] == GREY).all()


def test_sheet_frames_what_is_inside(drawing):
    wanted = drawing.key_frames
    assert wanted == [0, 1, 2, 3, 4, 5, 7, 9]
    sheet = drawing.sheet({i: image() for i in wanted})
    width, height = 320, 240
    for n, frame_id in enumerate(wanted):
        step_y = (sheet.shape[0] - drawing._draw_strip(4 * 332, 16).height) // 2
        x, y = n % 4 * 332 + 6, n // 4 * step_y + 6
        is_framed = (sheet[y - 2, x + width // 2] == GREEN).all()
        assert is_framed == (frame_id in (4, 5))
        middle = sheet[y + 20, x + 20]
        assert (middle == (GREY if is_framed else DARK)).all()
    assert sheet.shape[1] == 4 * 332 and height < sheet.shape[0]


@pytest.mark.parametrize(
    ('size', 'expected'),
    [((64, 48), (320, 240)), ((400, 300), (400, 300)), ((1920, 1080), (1280, 720))],
)
def test_clips_have_a_size_that_can_be_seen(size, expected):
    assert fit(size, 320, 1280) == expected
    drawing = TubeDrawing('x', (0, 1), [[0, 0, *size]], [0.0, 1.0], size)
    assert drawing.clip_size[0] == expected[0] and drawing.clip_size[1] % 2 == 0
    assert drawing.clip_frame(image(size), 0).shape[:2] == drawing.clip_size[::-1]


def test_odd_sizes_and_long_words_fit():
    drawing = TubeDrawing('w' * 300, (0, 1), [[0, 0, 9, 9]], [0.0, 0.1], (331, 333))
    assert drawing.clip_size[0] == 332 and drawing.clip_size[1] % 2 == 0
    assert drawing.sheet({0: image((331, 333))}).shape[1] < 350


def test_times_are_read_easily():
    assert [format_time(t) for t in (0, 7.26, 127.3, 59.99)] == [
        '0.0 s',
        '7.3 s',
        '2:07.3',
        '1:00.0',
    ]
    assert format_time(7.26, unit=False) == '7.3'


def test_clip_keeps_uneven_times(tmp_path):
    pytest.importorskip('av')
    times = [0.0, 0.1, 0.2, 1.5, 1.6]
    path = str(tmp_path / 'clip.mp4')
    with ClipWriter(path, (64, 48), 10.0) as writer:
        for i, time in enumerate(times):
            writer.add(np.full((48, 64, 3), 40 * i, np.uint8), time)
    with VideoReader(path) as video:
        assert (video.num_frames, video.width, video.height) == (5, 64, 48)
        np.testing.assert_allclose(video.timestamps, times, atol=1e-4)
        levels = [frame.mean() for frame in video.read(range(5))]
    np.testing.assert_allclose(levels, [40 * i for i in range(5)], atol=4)
