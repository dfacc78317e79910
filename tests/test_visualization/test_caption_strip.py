"""Captions below pictures: which word has which colour, line breaks, and what stands beside them."""

import mmcv
import numpy as np
import pytest
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import tensor

from mmvg.visualization import caption_of, draw_grounding
from mmvg.visualization.caption_strip import _break, caption_strip, mark_words
from mmvg.visualization.colours import NO_ANSWER, ink_on, query_colour
from mmvg.visualization.grounding_visualizer import draw_sample
from mmvg.visualization.lettering import font_of

IMAGE = np.full((240, 320, 3), 100, dtype=np.uint8)
CAPTION = 'a red circle left of a circle'
SPANS = [(0, 3), (5, 7)]
QUERIES = ['a red circle', 'a circle']
BOXES = np.array([[10.0, 20, 60, 70], [150, 90, 300, 200]])
COLOURS = [query_colour(i) for i in range(9)]


def coloured(picture, colour):
    return (np.asarray(picture) == np.array(colour, np.uint8)).all(-1)


def strip(caption=CAPTION, spans=SPANS, width=320, notes=(), relations=(), key=''):
    words = mark_words(caption, spans)
    return caption_strip(width, words, COLOURS[: len(spans)], notes, relations, key, font_of(13))


def sample(**fields):
    meta = dict(queries=QUERIES, caption=CAPTION, query_spans=SPANS, ori_shape=(240, 320))
    result = DetDataSample(metainfo={**meta, 'relations': [(0, 1, 'left of', [0])], **fields})
    result.pred_instances = InstanceData(bboxes=tensor(BOXES).float(), scores=tensor([0.5, 0.2]))
    return result


def test_words_have_the_phrase_that_covers_them():
    words = mark_words(CAPTION, SPANS)
    assert [w.text for w in words] == CAPTION.split()
    assert [w.phrase for w in words] == [0, 0, 0, None, None, 1, 1]
    assert [w.begins for w in words] == [[0], [], [], [], [], [1], []]


def test_of_phrases_within_phrases_the_shortest_is_seen():
    words = mark_words('a man on a red bike', [(0, 6), (0, 2), (3, 6), (3, 6)])
    assert [w.phrase for w in words] == [1, 1, 0, 2, 2, 2]
    assert words[0].begins == [0, 1] and words[3].begins == [2, 3]


def test_phrases_stand_in_the_colours_of_their_boxes():
    """Repeated phrases as well: places tell them apart, not words."""
    caption = 'a circle near a circle'
    picture = draw_grounding(
        IMAGE, ['a circle'] * 2, BOXES, sentence=caption, spans=[(0, 2), (3, 5)]
    )
    for i, (x1, y1, x2, y2) in enumerate(BOXES.astype(int)):
        mask = coloured(picture, COLOURS[i])
        assert mask[y2, x1 + 20 : x2].all() and mask[y1 + 20 : y2, x2].all()  # the box
        assert mask[240:].any()  # the phrase
    columns = [np.nonzero(coloured(picture, COLOURS[i])[240:])[1] for i in range(2)]
    assert columns[0].max() < columns[1].min()  # in the order of the caption, on one line


def test_predictions_are_solid_and_the_truth_is_dashed():
    shifted = BOXES + [0, 30, 0, 30]
    picture = draw_grounding(IMAGE, QUERIES, BOXES, shifted, sentence=CAPTION, spans=SPANS)
    mask = coloured(picture, COLOURS[1])
    assert mask[200, 160:300].all()
    dashes = mask[230, 160:300]
    assert dashes.any() and not dashes.all()


def test_what_has_no_answer_is_grey():
    picture = draw_grounding(
        IMAGE, QUERIES, BOXES, sentence=CAPTION, spans=SPANS, answered=[True, False]
    )
    assert coloured(picture, COLOURS[0]).any() and not coloured(picture, COLOURS[1]).any()
    assert (
        coloured(picture, NO_ANSWER)[240:].any()
        and coloured(picture, NO_ANSWER)[200, 160:300].all()
    )


def test_a_score_of_zero_is_no_answer():
    one = sample()
    one.pred_instances.scores[1] = 0
    expected = dict(sentence=CAPTION, spans=SPANS, relations=[(0, 1, 'left of')])
    for answered, drawn in (([True, False], one), ([True, True], sample())):
        picture = draw_grounding(IMAGE, QUERIES, BOXES, answered=answered, **expected)
        np.testing.assert_array_equal(draw_sample(IMAGE, drawn), picture)


def test_relations_are_written_with_the_numbers_of_the_phrases():
    heights = [strip(relations=r).height for r in ((), [(0, 1, 'left of')])]
    assert heights[1] > heights[0]
    below = np.asarray(strip(relations=[(1, 0, 'right of')]))[heights[0] - 6 :]
    columns = [np.nonzero(coloured(below, COLOURS[i]))[1] for i in range(2)]
    assert columns[1].max() < columns[0].min()  # subject first


def test_notes_and_key_stand_below():
    plain = strip().height
    assert strip(notes=['', '']).height == plain
    assert strip(notes=['(IoU 0.50)', '']).height > plain
    assert strip(key='solid: prediction').height > plain


def test_several_things_of_a_unit_stay_on_one_line():
    """A number is not left alone at the end of a line."""
    font = font_of(13)
    for width in range(60, 300, 7):
        picture = np.asarray(strip('one two three [x] four five', [(2, 3), (4, 6)], width))
        for i in range(2):
            rows = np.flatnonzero(coloured(picture, COLOURS[i]).any(1))
            first = coloured(picture, COLOURS[i])[rows[0]]
            number = font.getlength(str(i + 1)) + 6
            assert first.sum() > number + 10, (width, i)


@pytest.mark.parametrize('width', [60, 100, 333])
@pytest.mark.parametrize(
    'caption', ['w' * 200, 'a ' * 99, '左边的红色圆圈', 'größter \U0001f534 !']
)
def test_nothing_reaches_over_the_border(caption, width):
    end = len(caption.split())
    picture = np.asarray(strip(caption, [(0, end)], width))
    assert picture.shape[1] == width and coloured(picture, COLOURS[0]).any()
    assert not coloured(picture, COLOURS[0])[:, -3:].any()


def test_long_words_are_broken_and_whole():
    from mmvg.visualization.caption_strip import _Piece

    lines = _break([[_Piece('1'), _Piece('w' * 90)], [_Piece('next')]], 150, font_of(13))
    assert ''.join(p.text for line in lines for p in line) == '1' + 'w' * 90 + 'next'
    assert all(line for line in lines) and len(lines) > 3


def test_text_is_readable_on_every_colour():
    """Contrast of at least 4.5 : 1, as WCAG 2 asks of small text."""

    def luminance(colour):
        channels = np.array(colour) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    for fill in (*map(query_colour, range(60)), NO_ANSWER):
        both = sorted((luminance(fill), luminance(ink_on(fill))))
        assert (both[1] + 0.05) / (both[0] + 0.05) >= 4.5


def test_only_sentences_are_drawn_as_such():
    assert caption_of(sample())['relations'] == [(0, 1, 'left of')]
    assert caption_of(sample(relations=None))['relations'] == []
    # A model that reads captions was given the queries in a row.
    assert caption_of(sample(caption='a red circle a circle')) == {}
    assert caption_of(sample(caption=None)) == {} == caption_of(sample(query_spans=None))
    with pytest.raises(ValueError, match="2 queries but 1 spans in 'a red circle"):
        draw_grounding(IMAGE, QUERIES, sentence=CAPTION, spans=SPANS[:1])


def test_proposals_are_thin_lines_below_the_boxes():
    boxes = np.array([[20.0, 30, 200, 180], [-50, -50, 900, 900]])
    picture = draw_grounding(IMAGE, QUERIES, sentence=CAPTION, spans=SPANS, proposals=boxes)
    mask = coloured(picture[:240], (200, 200, 200))
    assert mask[30, 20:200].all() and not mask[31, 21:199].any() and mask[0].all()


def test_crowded_tags_stay_in_the_picture():
    boxes = np.tile([310.0, 230, 319, 239], (30, 1))
    picture = draw_grounding(IMAGE, [f'thing {i}' for i in range(30)], boxes)
    for i in range(30):
        assert coloured(picture[:240], query_colour(i)).sum() > 40, i


def test_visualizer_draws_captions(tmp_path):
    visualizer = VISUALIZERS.build(dict(type='GroundingVisualizer', name='captions'))
    path = tmp_path / 'a.png'
    visualizer.add_datasample('a', IMAGE, sample(), out_file=str(path))
    expected = draw_sample(IMAGE, sample())
    np.testing.assert_array_equal(mmcv.imread(path)[..., ::-1], expected)
    assert coloured(expected[240:], COLOURS[1]).any()
