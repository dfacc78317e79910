import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmvg.datasets import ShapesVideoDataset, VidSTGDataset


@pytest.fixture
def load():
    def load(missing='repeat', **results):
        results = dict(dict(source='val.json: record 3', fps=30.0), **results)
        return TRANSFORMS.build(dict(type='LoadVideoFrames', missing=missing))(results)

    return load


def test_sampled_frames_of_a_file_and_of_a_folder_are_the_same(videos, load):
    path = videos.write('a.mp4', 40, options={'g': '12', 'bf': '2'})
    frame_ids = np.array([3, 17, 38])
    results = load(video_path=str(path), frame_ids=frame_ids, height=64, width=120)
    assert [videos.number(f) for f in results['frames']] == [3, 17, 38]
    assert results['img_shape'] == results['ori_shape'] == (64, 120)
    folder = videos.folder / 'frames'
    folder.mkdir()
    for i in range(40):
        Image.fromarray(videos.picture(i)[..., ::-1]).save(folder / f'{i:04d}.png')
    frames = load(video_path=str(folder), frame_ids=frame_ids)['frames']
    for frame, decoded in zip(frames, results['frames'], strict=True):
        assert np.abs(frame.astype(int) - decoded).mean() < 3


def test_frames_that_are_missing(videos, load):
    path = str(videos.write('a.mp4', 10))
    frames = load(video_path=path, frame_ids=np.array([8, 12]))['frames']
    assert [videos.number(f) for f in frames] == [8, 9]
    with pytest.raises(ValueError, match=r'val\.json: record 3: .*a\.mp4: there is no frame 12'):
        load('error', video_path=path, frame_ids=np.array([8, 12]))
    with pytest.raises(ValueError, match="'repeat' or 'error'"):
        load('skip')


def test_errors_name_record_and_file(videos, load):
    path = str(videos.write('a.mp4', 10))
    with pytest.raises(FileNotFoundError, match=r'record 3: .*absent\.mp4 does not exist'):
        load(video_path=str(videos.folder / 'absent.mp4'), frame_ids=np.array([0]))
    (videos.folder / 'b.mp4').write_bytes(b'')
    with pytest.raises(ValueError, match=r'record 3: .*b\.mp4 cannot be opened'):
        load(video_path=str(videos.folder / 'b.mp4'), frame_ids=np.array([0]))
    with pytest.raises(ValueError, match=r'a\.mp4 are 120 x 64 but the annotation says 64 x 120'):
        load(video_path=path, frame_ids=np.array([0]), height=120, width=64)


def test_generated_videos_need_no_file(load):
    dataset = ShapesVideoDataset(num_videos=1, num_frames=24, event_share=(0.3, 0.6))
    results = load(**dict(dataset[0], frame_ids=np.array([2, 20])))
    np.testing.assert_array_equal(results['frames'], dataset.render(0, [2, 20]))


def test_pipeline_of_a_real_clip(samples, tmp_path):
    """Reader, sampling and decoding together, on a clip under the name of a VidSTG video."""
    pytest.importorskip('av')
    annotations = samples / 'vidstg' / 'annotations' / 'val_annotations.json'
    videos = tmp_path / '0000'
    videos.mkdir()
    clip = samples / 'video_clips' / 'mmaction2_test_video_structuralize.mp4'
    (videos / '10712559773.mp4').symlink_to(clip)
    kwargs = dict(data_prefix=dict(video=str(tmp_path)), indices=1)
    pipeline = [dict(type='SampleFrames', num_frames=8), dict(type='LoadVideoFrames')]
    with pytest.raises(ValueError, match='are 426 x 240 but the annotation says 640 x 360'):
        VidSTGDataset(str(annotations), pipeline=pipeline, **kwargs)[0]
    (record,) = VidSTGDataset(str(annotations), pipeline=pipeline[:1], **kwargs)
    assert record['segment'] == (496, 596) and record['video_path'] == str(
        videos / '10712559773.mp4'
    )
    assert record['frame_ids'].tolist() == [496, 510, 524, 538, 553, 567, 581, 595]
