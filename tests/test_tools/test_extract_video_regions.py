"""Regions of generated videos and of videos as files, by the detector of Shapes with random weights."""

import io
import json
import runpy

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from PIL import Image

from mmvg.datasets import VideoGroundingDataset
from mmvg.datasets.proposal_file import ProposalFile
from mmvg.datasets.transforms import LoadVideoFrames
from mmvg.datasets.video_reader import VideoReader
from mmvg.datasets.video_regions import VideoRegions

TOOL = 'analysis_tools/extract_video_regions.py'
REST = ['--num-workers', 0, '--device', 'cpu', '--roi-size', 3]
GENERATED = """
def loader(split, num_frames, num_videos):
    # LoadTubes reads what the tool writes, so it cannot be built yet.
    steps = [dict(type='SampleFrames', num_frames=num_frames),
             dict(type='LoadTubes', region_file='absent')]
    return dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(
        type='ShapesVideoDataset', split=split, num_videos=num_videos, max_queries=1,
        test_mode=split == 'test', pipeline=steps)))
train_dataloader = loader('train', 4, 2)
val_dataloader = loader('train', 6, 1)
test_dataloader = loader('test', 3, 1)
"""


@pytest.fixture
def generated(tmp_path):
    """Two training videos, one of which validation samples otherwise, and a test video."""
    path = tmp_path / 'generated.py'
    path.write_text(GENERATED)
    return path


@pytest.fixture
def extract(call_tool, repository, tmp_path):
    """Run the tool with FCOS of random weights."""

    def run(data, *args, out='out', checkpoint='none'):
        config = repository / 'configs/transvg/fcos_shapes.py'
        return call_tool(TOOL, config, checkpoint, data, '--out', tmp_path / out, *REST, *args)

    return run


def keys_of(path):
    return [key.rsplit('/', 1) for key in ProposalFile.keys(VideoRegions(path))]


def test_every_sampled_frame_is_there_once(extract, repository, generated, tmp_path, monkeypatch):
    decoded = []
    read = LoadVideoFrames.transform

    def transform(self, results):
        decoded.append(results['video_id'])
        assert 'tubes' not in results and 'tracks' not in results  # the truth is not even read
        return read(self, results)

    monkeypatch.setattr(LoadVideoFrames, 'transform', transform)
    torch.manual_seed(4)
    cfg = Config.fromfile(repository / 'configs/transvg/fcos_shapes.py')
    detector = MODELS.build(cfg.model)
    detector.bbox_head.conv_cls.bias.data.fill_(-1.0)
    checkpoint = tmp_path / 'fcos.pth'
    torch.save(dict(state_dict=detector.state_dict()), checkpoint)
    options = ['--features', 'float32', '--max-boxes', 5, '--score-thr', 0.1]
    output = extract(generated, *options, checkpoint=checkpoint)
    assert '15 frames of 3 videos, 0 of them' in output and '15 frames with ' in output
    names = ['shapes_train_000000', 'shapes_train_000001', 'shapes_test_000000']
    assert sorted(decoded) == sorted(names)
    # 32 frames: 0, 10, 21, 31 and 0, 6, 12, 19, 25, 31 of the same video.
    frames = [[0, 6, 10, 12, 19, 21, 25, 31], [0, 10, 21, 31], [0, 16, 31]]
    union = [[name, str(f)] for name, ids in zip(names, frames, strict=True) for f in ids]
    assert keys_of(tmp_path / 'out') == sorted(union, key='/'.join)
    extractor = MODELS.build(
        dict(
            type='RegionExtractor',
            detector=cfg.model,
            checkpoint=str(checkpoint),
            roi_size=3,
            max_boxes=5,
            score_thr=0.1,
        )
    )
    dataset = DATASETS.build(dict(type='ShapesVideoDataset', num_videos=2, pipeline=[]))
    video = dataset.get_data_info(1)['video']
    expected = extractor([video.frame(i) for i in (0, 31)])
    found = VideoRegions(tmp_path / 'out').get('shapes_train_000001', [0, 31])
    for one, other in zip(found, expected, strict=True):
        assert len(one.bboxes) == 5 and one.size == other.size == (64, 64)
        for a, b in zip(one[:5], other[:5], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_stopped_run_goes_on(extract, generated, tmp_path):
    extract(generated, out='whole')
    assert '0 of them' in extract(generated, '--split', 'test')
    stopped = tmp_path / 'whole_stopped'
    (tmp_path / 'out').rename(stopped)
    journal = stopped / 'journal.jsonl'  # as if killed while it wrote the third frame
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(''.join(lines[:2]) + lines[2][:5])
    (stopped / 'index.npy').unlink()
    with pytest.raises(ValueError, match='is not finished; .* goes on where it was stopped'):
        VideoRegions(stopped)
    assert '2 of them' in extract(generated, out='whole_stopped')
    assert keys_of(stopped) == keys_of(tmp_path / 'whole')
    wanted = ('shapes_train_000000', [0, 31]), ('shapes_test_000000', [0, 31])
    for where in wanted:
        pairs = zip(
            VideoRegions(stopped).get(*where),
            VideoRegions(tmp_path / 'whole').get(*where),
            strict=True,
        )
        for one, other in pairs:
            np.testing.assert_allclose(one.frame_feature, other.frame_feature, atol=1e-3)
            np.testing.assert_allclose(one.bboxes, other.bboxes, atol=1e-3)
    assert '15 of them' in extract(generated, out='whole_stopped')


@DATASETS.register_module()
class _ListedVideoDataset(VideoGroundingDataset):
    """Records of a json file."""

    def load_data_list(self):
        with open(self.ann_file) as f:
            return json.load(f)


@pytest.fixture
def listed(tmp_path):
    """Function that writes a config of videos: {id: (path, frames, width, height)}."""

    def write(videos, pipeline="[dict(type='SampleFrames', num_frames=3)]"):
        records = [
            dict(
                video_id=video_id,
                video_path=str(path),
                fps=25.0,
                num_frames=count,
                width=width,
                height=height,
                segment=(0, count),
                queries=['a man walks.'],
                query_ids=[video_id],
                query_types=['declarative'],
                source=f'videos.json: {video_id}',
            )
            for video_id, path, count, width, height in videos
        ]
        (tmp_path / 'videos.json').write_text(json.dumps(records))
        path = tmp_path / 'listed.py'
        path.write_text(
            "train_dataloader = dict(dataset=dict(type='_ListedVideoDataset', "
            f'ann_file={str(tmp_path / "videos.json")!r}, pipeline={pipeline}))\n'
        )
        return path

    return write


@pytest.fixture
def folder(tmp_path):
    """A folder of five frames, and a folder of five files that are none."""
    for name in ('good', 'bad'):
        (tmp_path / name).mkdir()
        for i in range(5):
            path = tmp_path / name / f'{i:03}.png'
            if name == 'bad':
                path.write_bytes(b'no picture')
            else:
                Image.fromarray(np.full((48, 64, 3), 40 * i, np.uint8)).save(path)
    return tmp_path


def test_broken_videos_are_named_or_left_out(
    extract, fail_tool, repository, listed, folder, tmp_path, capsys, monkeypatch
):
    videos = [('b', folder / 'bad', 5, 64, 48), ('g', folder / 'good', 5, 64, 48)]
    config = repository / 'configs/transvg/fcos_shapes.py'
    args = [TOOL, config, 'none', listed(videos), '--out', tmp_path / 'out', *REST]
    error = fail_tool(*args)
    assert 'video b: ' in error and str(folder / 'bad') in error and '--skip-broken' in error
    with pytest.raises(SystemExit):  # workers tell as well
        extract(listed(videos), '--num-workers', 1)
    assert 'error: video b: ' in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr('sys.stderr', stderr := io.StringIO())
        assert '6 frames of 2 videos' in extract(listed(videos), '--skip-broken')
    assert 'RANDOM WEIGHTS' in stderr.getvalue()
    assert 'left out 1 videos that cannot be decoded' in stderr.getvalue()
    assert "set invalid='skip' of the data sets, or mend" in stderr.getvalue()
    assert f'\n  b: videos.json: b: none of the frames in {folder}' in stderr.getvalue()
    assert keys_of(tmp_path / 'out') == [['g', '0'], ['g', '2'], ['g', '4']]
    with pytest.raises(ValueError, match="frame 0 of video 'b'"):
        VideoRegions(tmp_path / 'out').get('b', [0])
    # Mended, it is added.
    videos[0] = ('b', folder / 'good', 5, 64, 48)
    assert '3 of them' in extract(listed(videos))
    assert len(VideoRegions(tmp_path / 'out').get('b', [0, 2, 4])) == 3


def test_real_clip(extract, samples, listed, tmp_path):
    pytest.importorskip('av')
    clip = samples / 'video_clips' / 'mmaction2_demo.mp4'
    with VideoReader(str(clip)) as video:
        data = listed([('clip', clip, video.num_frames, video.width, video.height)])
        size, last = (video.height, video.width), video.num_frames - 1
    extract(data, '--batch-size', 3)
    for regions in VideoRegions(tmp_path / 'out').get('clip', [0, last]):
        assert regions.size == size and len(regions.frame_feature) == 64
        assert (regions.bboxes >= 0).all() and (regions.bboxes <= [*size[::-1]] * 2).all()


def test_mistakes_are_named(extract, fail_tool, repository, generated, listed, folder, tmp_path):
    config = repository / 'configs/transvg/fcos_shapes.py'

    def error_of(data, *args):
        return fail_tool(TOOL, config, 'none', data, '--out', tmp_path / 'out', *REST, *args)

    videos = [('g', folder / 'good', 5, 64, 48)]
    assert 'ShapesGroundingDataset is no data set of videos' in error_of('transvg_shapes')
    error = error_of(listed(videos, pipeline='[]'))
    assert 'no step in the pipeline of _ListedVideoDataset chooses frames' in error
    assert 'has no data set for val' in error_of(listed(videos), '--split', 'val')
    error = error_of(listed([*videos, ('g', folder / 'bad', 5, 64, 48)]))
    assert 'are both called' in error and str(folder / 'bad') in error
    extract(listed(videos))
    error = error_of(listed(videos), '--max-boxes', 3)
    assert 'video region file' in error and 'made in another way (max_boxes 20)' in error


def test_comment_of_the_shapes_config_is_the_command_of_the_table(repository):
    """One detector, trained by one config to one epoch, into the folder that the config reads."""
    path = repository / 'configs/_base_/datasets/shapes_video.py'
    comment = [x[1:].rstrip('\\') for x in path.read_text().split('\n_base_')[0].splitlines()]
    train, extract = ''.join(comment).split('python tools/')[1:]
    detector, checkpoint, data, _, out = extract.split()[1:6]
    assert train.split() == ['train.py', detector]
    for config in (detector, data):
        assert (repository / config).is_file()
    epochs = Config.fromfile(repository / detector).train_cfg.max_epochs
    assert checkpoint == f'work_dirs/{detector.split("/")[-1][:-3]}/epoch_{epochs}.pth'
    assert Config.fromfile(repository / data).region_file == out
    table = runpy.run_path(str(repository / 'tools/analysis_tools/tables/vcma_shapes.py'))
    ((_, *command),) = table['prepare']
    command = ' '.join(command).format(checkpoint=checkpoint)
    named = [x.removeprefix('configs/').removesuffix('.py') for x in extract.split()[1:]]
    assert command.split() == named and table['initial']['config'] == named[0]
