"""Videos and sentences in, tubes and pictures of them out; odd videos and odd sentences."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mmvg.apis import VideoGroundingInferencer
from mmvg.datasets import VideoReader
from mmvg.visualization.clip_writer import ClipWriter

pytest.importorskip('av')
TEXT = 'a red circle chases a blue square'


@pytest.fixture(scope='module')
def cfg(repository):
    """The Shapes recipe, with few frames."""
    cfg = Config.fromfile(str(repository / 'configs/vcma/vcma_shapes.py'))
    cfg.test_dataloader.dataset.pipeline[0].num_frames = 6
    return cfg


@pytest.fixture(scope='module')
def detectors(repository, tmp_path_factory):
    """Untrained detectors of Shapes: ``sure`` of some boxes, and ``blind``."""
    path = repository / 'configs/transvg/fcos_shapes.py'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(str(path)).model)
    folder, found = tmp_path_factory.mktemp('detector'), {}
    for name, bias in (('sure', 0.0), ('blind', -20.0)):
        model.bbox_head.conv_cls.bias.data.fill_(bias)
        torch.save(dict(state_dict=model.state_dict()), folder / f'{name}.pth')
        found[name] = str(path), str(folder / f'{name}.pth')
    return found


def build(cfg, detector):
    torch.manual_seed(0)
    return VideoGroundingInferencer(cfg, device='cpu', detector=detector)


@pytest.fixture(scope='module')
def inferencer(cfg, detectors):
    return build(cfg, detectors['sure'])


def write(path, num_frames=12, times=None):
    """A square that moves over noise."""
    rng = np.random.RandomState(0)
    noise = rng.randint(90, 110, (48, 64, 3)).astype(np.uint8)
    times = np.arange(num_frames) / 10 if times is None else times
    with ClipWriter(str(path), (64, 48), 10.0) as writer:
        for i, time in enumerate(times):
            frame = noise.copy()
            frame[10:30, 2 * i : 2 * i + 20] = (30, 30, 220)
            writer.add(frame, time)
    return str(path)


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write(tmp_path_factory.mktemp('videos') / 'square.mp4')


def check(answer, num_frames=12, size=(64, 48)):
    begin, end = answer['span']
    assert 0 <= begin < end <= num_frames and len(answer['bboxes']) == end - begin
    boxes = np.array(answer['bboxes'])
    assert np.isfinite(boxes).all() and (boxes >= 0).all() and (boxes <= [*size] * 2).all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all()  # the detector is not trained
    assert 0 <= answer['score'] <= 1 and np.isfinite(answer['score'])


def test_sentences_share_frames_and_the_files_show_the_answers(
    inferencer, video, tmp_path, monkeypatch
):
    texts = [TEXT, 'what does a red circle chase?', TEXT]
    batches = []
    extract = type(inferencer.model.region_extractor).forward
    monkeypatch.setattr(
        type(inferencer.model.region_extractor),
        'forward',
        lambda self, frames: batches.append(len(frames)) or extract(self, frames),
    )
    result = inferencer(video, texts, out_dir=str(tmp_path))
    answers = result['predictions']
    assert result['visualization'] == [a['clip'] for a in answers]
    assert batches[-1] == 6 and sum(batches) <= 7  # one frame may be looked at before the others
    assert [a['query'] for a in answers] == texts
    assert [a['target'] for a in answers] == ['red circle', 'object', 'red circle']
    assert answers[0]['span'] == answers[2]['span'] and answers[0]['clip'] != answers[2]['clip']
    for answer in answers:
        check(answer)
        assert (answer['fps'], answer['num_frames']) == (10, 12)
        assert answer['span_seconds'] == tuple(i / 10 for i in answer['span'])
        with VideoReader(answer['clip']) as clip:
            assert clip.num_frames == 12 and clip.width == 320
            np.testing.assert_allclose(clip.timestamps, np.arange(12) / 10, atol=1e-3)
        assert cv2.imread(answer['sheet']).shape[1] == 4 * (256 + 12)
    written = json.loads((tmp_path / 'predictions.json').read_text(encoding='utf-8'))
    assert written == json.loads(json.dumps(answers))
    (alone,) = inferencer(video, texts[1])['predictions']  # other sentences do not matter
    assert alone['span'] == answers[1]['span'] and alone['bboxes'] == answers[1]['bboxes']
    assert alone['score'] == pytest.approx(answers[1]['score'], abs=1e-5)


def test_a_video_without_detections_has_the_whole_frame(cfg, detectors, video, tmp_path):
    (answer,) = build(cfg, detectors['blind'])(video, TEXT, str(tmp_path))['predictions']
    check(answer)
    assert all(box == [0, 0, 64, 48] for box in answer['bboxes'])


def test_one_frame(inferencer, tmp_path):
    path = write(tmp_path / 'one.mp4', 1)
    (answer,) = inferencer(path, TEXT, str(tmp_path / 'out'))['predictions']
    check(answer, 1)
    assert answer['span'] == (0, 1) and answer['span_seconds'][0] == 0 < answer['span_seconds'][1]
    with VideoReader(answer['clip']) as clip:
        assert clip.num_frames == 1


def test_variable_frame_rate(inferencer, tmp_path):
    times = np.cumsum([0, 0.1, 0.1, 0.7, 0.1, 0.1, 0.1, 1.2, 0.1, 0.1, 0.1, 0.1])
    path = write(tmp_path / 'uneven.mp4', times=times)
    (answer,) = inferencer(path, TEXT, str(tmp_path / 'out'))['predictions']
    check(answer)
    ends = np.append(times, times[-1] + 1 / answer['fps'])
    expected = ends[list(answer['span'])]
    np.testing.assert_allclose(answer['span_seconds'], expected, atol=2e-3)
    with VideoReader(answer['clip']) as clip:
        np.testing.assert_allclose(clip.timestamps, times, atol=1e-3)


def test_damaged_tail(inferencer, tmp_path):
    path = tmp_path / 'damaged.mp4'
    write(path, 24)
    content = bytearray(path.read_bytes())
    start, end = content.index(b'mdat'), content.index(b'moov')
    middle = start + (end - start) * 2 // 3
    content[middle : end - 4] = bytes(end - 4 - middle)
    path.write_bytes(bytes(content))
    (answer,) = inferencer(str(path), TEXT, str(tmp_path / 'out'))['predictions']
    check(answer, 24)  # the last good frame stands in for those that are lost
    with VideoReader(answer['clip']) as clip:
        assert clip.num_frames == 24
    path.write_bytes(bytes(content[:200]))
    with pytest.raises(ValueError, match='damaged.mp4'):
        inferencer(str(path), TEXT)


@pytest.mark.parametrize(
    ('text', 'target'),
    [('a red circle', 'red circle'), ('zorp', 'zorp'), ('runs', None), ('Der Hund jagt.', None)],
)
def test_odd_sentences_have_an_answer(inferencer, video, text, target):
    (answer,) = inferencer(video, text)['predictions']
    check(answer)
    assert target in (None, answer['target'])


def test_folders_of_frames_need_a_rate(inferencer, tmp_path):
    folder = tmp_path / 'frames'
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f'{i:03}.png'), np.full((48, 64, 3), 60 * i, np.uint8))
    with pytest.raises(ValueError, match='does not tell its frame rate; give it: --fps'):
        inferencer(str(folder), TEXT)
    (answer,) = inferencer(folder, TEXT, str(tmp_path / 'out'), fps=2)['predictions']
    check(answer, 3)
    assert answer['span_seconds'] == tuple(i / 2 for i in answer['span'])


def test_mistakes_are_named(inferencer, cfg, detectors, repository, video):
    with pytest.raises(ValueError, match='no video given'):
        inferencer([], 'a dog')
    with pytest.raises(ValueError, match='2 videos but 3 texts'):
        inferencer([video, video], ['a', 'b', 'c'])
    with pytest.raises(ValueError, match="text ' ' of video 0 is empty"):
        inferencer(video, ['a', ' '])
    with pytest.raises(ValueError, match='has no word'):
        inferencer(video, '?!')
    with pytest.raises(FileNotFoundError, match='nowhere.mp4'):
        inferencer('nowhere.mp4', 'a dog')
    with pytest.raises(ValueError, match='give the detector'):
        VideoGroundingInferencer(cfg, device='cpu')
    with pytest.raises(ValueError, match='is of a model of pictures'):
        VideoGroundingInferencer('transvg_shapes', detector=detectors['sure'])
    other = copy.deepcopy(cfg)
    other.region_extractor.roi_side = 3
    with pytest.raises(ValueError, match='no setting roi_side; there are score_thr'):
        build(other, detectors['sure'])
    other = copy.deepcopy(cfg)
    other.model.tube_head.update(frame_dims=32, tube_dims=37)
    with pytest.raises(ValueError, match="have 64 numbers, those of the model's own detector 32"):
        build(other, detectors['sure'])(video, TEXT)


def test_other_detections_than_those_of_the_region_file(cfg, detectors, tmp_path, caplog):
    meta = dict(format='mmvg video regions 1', detector='fcos_shapes', roi_size=7, max_boxes=20)
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    other = copy.deepcopy(cfg)
    other.test_dataloader.dataset.pipeline[1].region_file = str(tmp_path)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    build(other, detectors['sure'])
    logger.removeHandler(caplog.handler)
    (message,) = [m for m in caplog.messages if 'were made with' in m]
    assert 'roi_size 7 (now 3); a model' in message


def test_real_clip(inferencer, samples, tmp_path):
    path = samples / 'video_clips' / 'mmaction2_test_video_structuralize.mp4'
    (answer,) = inferencer(path, 'a man holds a ball', str(tmp_path))['predictions']
    check(answer, 300, (426, 240))
    with VideoReader(answer['clip']) as clip, VideoReader(str(path)) as original:
        assert (clip.num_frames, clip.width) == (300, 426)
        np.testing.assert_allclose(clip.timestamps, original.timestamps, atol=1e-3)
