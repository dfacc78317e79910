import json

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS

from mmvg.datasets import ShapesVideoDataset, VidSTGDataset
from mmvg.datasets.shapes import PREDICATES
from mmvg.visualization import clip_writer

NUM = 4


@pytest.fixture(scope='module')
def generated():
    dataset = ShapesVideoDataset(num_videos=NUM, split='val', test_mode=True)
    return [dataset.get_data_info(i) for i in range(NUM)]


def exported(folder, **options):
    return VidSTGDataset(
        'val_annotations.json',
        data_root=str(folder),
        data_prefix=dict(video='video', annotation='annotation'),
        **options,
    )


@pytest.mark.parametrize('options', [(), ('--frames',)])
def test_exported_videos_read_back(call_tool, tmp_path, generated, options):
    """Queries, spans, boxes and pictures are those of the generator."""
    if not options:
        pytest.importorskip('av')
    output = call_tool(
        'misc/export_shapes_video.py', '--out', tmp_path, '--num', NUM, '--split', 'val', *options
    )
    assert f'{NUM} videos' in output
    dataset = exported(tmp_path, test_mode=True, check_videos=True)
    assert len(dataset) == NUM
    load = TRANSFORMS.build(dict(type='LoadVideoFrames', missing='error'))
    for i, record in enumerate(generated):
        info = dataset.get_data_info(i)
        for key in ('video_id', 'fps', 'num_frames', 'width', 'height', 'segment'):
            assert info[key] == record[key]
        assert info['queries'] == record['queries']
        assert info['query_types'] == record['query_types']
        for tube, truth in zip(info['tubes'], record['tubes'], strict=True):
            assert tuple(tube['span']) == truth['span']
            assert (tube['bboxes'] == truth['bboxes']).all()
        frame_ids = np.arange(32)
        read, drawn = (
            np.stack(load({**r, 'frame_ids': frame_ids})['frames']).astype(int)
            for r in (info, record)
        )
        errors = np.abs(read[:, None] - drawn).mean((2, 3, 4))
        # Each frame is where it was, not one off.
        own = errors.diagonal().mean()
        assert own < min(errors.diagonal(1).mean(), errors.diagonal(-1).mean()) - 0.2
        assert errors.diagonal().max() < (1e-9 if options else 8)  # mp4 has half the colours


def test_videos_are_written_without_x264(call_tool, tmp_path, monkeypatch):
    av = pytest.importorskip('av')
    monkeypatch.setattr(clip_writer, '_CODECS', ('no such codec', 'mpeg4'))
    call_tool('misc/export_shapes_video.py', '--out', tmp_path, '--num', 1)
    (path,) = (tmp_path / 'video').iterdir()
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        assert stream.codec_context.name == 'mpeg4'
        assert stream.average_rate == 8 and len(list(container.decode(stream))) == 32


def test_files_have_the_fields_of_vidstg_and_vidor(call_tool, tmp_path, generated, samples):
    call_tool(
        'misc/export_shapes_video.py', '--out', tmp_path, '--num', 2, '--split', 'val', '--frames'
    )
    real = json.loads((samples / 'vidstg/annotations/val_annotations.json').read_text())[0]
    entries = json.loads((tmp_path / 'val_annotations.json').read_text())
    assert [e['vid'] for e in entries] == json.loads((tmp_path / 'val_files.json').read_text())
    for entry, record in zip(entries, generated, strict=False):
        assert entry.keys() == real.keys()
        for key, value in real.items():
            if isinstance(value, dict):
                assert entry[key].keys() == value.keys()
            elif isinstance(value, list):
                assert all(item.keys() == value[0].keys() for item in entry[key])
        assert entry['used_relation']['predicate'] in PREDICATES
        assert entry['used_relation']['subject_tid'] == record['tubes'][0]['track']
        assert entry['used_segment'] == dict(begin_fid=0, end_fid=31)
        boxes = json.loads((tmp_path / 'annotation' / f'{entry["vid"]}.json').read_text())
        assert len(boxes['trajectories']) == boxes['frame_count'] == 32
        assert boxes['relation_instances'] == [entry['used_relation']]


def test_training_reads_no_boxes(call_tool, tmp_path):
    """Without the box files, the same sentences."""
    call_tool(
        'misc/export_shapes_video.py', '--out', tmp_path, '--num', 2, '--split', 'val', '--frames'
    )
    for path in (tmp_path / 'annotation').iterdir():
        path.unlink()
    dataset = exported(tmp_path)
    assert len(dataset) == 2 and 'tubes' not in dataset.get_data_info(0)
