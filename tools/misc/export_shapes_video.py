"""Write generated videos of moving shapes as files, laid out as VidSTG and VidOR are.

    OUT/SPLIT_annotations.json   sentences, events and targets (VidSTG)
    OUT/SPLIT_files.json         names of the videos (VidSTG)
    OUT/annotation/VIDEO.json    boxes of all shapes in all frames (VidOR)
    OUT/video/VIDEO.mp4          or, with --frames, a folder VIDEO of PNG pictures

It shows what those files hold, and gives VidSTGDataset something to read where the real ones are
not at hand:

    dict(type='VidSTGDataset', data_root=OUT, ann_file='SPLIT_annotations.json',
         data_prefix=dict(video='video', annotation='annotation'))
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress

from mmvg.apis import concise_errors
from mmvg.datasets import ShapesVideoDataset
from mmvg.visualization.clip_writer import ClipWriter


def sentence_entry(record: dict) -> dict:
    """A record as VidSTG's sentence files have it."""
    event = record['video'].event
    span = dict(begin_fid=event.begin, end_fid=event.end)
    sentences = dict(captions=[], questions=[])
    rows = zip(record['queries'], record['query_types'], record['tubes'], strict=True)
    for text, kind, tube in rows:
        sentences['captions' if kind == 'declarative' else 'questions'].append(
            dict(description=text, type='object', target_id=tube['track'])
        )
    begin, end = record['segment']
    return {
        'vid': record['video_id'],
        **_header(record),
        'used_segment': dict(begin_fid=begin, end_fid=end - 1),  # this end is inclusive there
        'used_relation': _relation(event),
        'temporal_gt': span,
        **sentences,
    }


def box_file(record: dict) -> dict:
    """All boxes of a video as VidOR's files have them."""
    trajectories = [
        [
            dict(
                tid=tid,
                bbox=dict(zip(('xmin', 'ymin', 'xmax', 'ymax'), map(float, box), strict=True)),
                generated=0,
                tracker='none',
            )
            for tid, box in enumerate(boxes)
        ]
        for boxes in record['tracks'].transpose(1, 0, 2)
    ]
    return {
        'version': 'VERSION 1.0',
        'video_id': record['video_id'],
        'video_path': record['video_path'],
        **_header(record),
        'trajectories': trajectories,
        'relation_instances': [_relation(record['video'].event)],
    }


def _header(record: dict) -> dict:
    shapes = record['video'].shapes
    return {
        'fps': record['fps'],
        'frame_count': record['num_frames'],
        'width': record['width'],
        'height': record['height'],
        'subject/objects': [dict(tid=i, category=s.kind) for i, s in enumerate(shapes)],
    }


def _relation(event) -> dict:
    return dict(
        subject_tid=event.subject,
        object_tid=event.target,
        predicate=event.predicate,
        begin_fid=event.begin,
        end_fid=event.end,
    )


def write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    """``frames`` are F x H x W x 3 BGR with even sides."""
    with ClipWriter(str(path), frames.shape[2:0:-1], fps) as writer:
        for number, frame in enumerate(frames):
            writer.add(np.ascontiguousarray(frame[..., ::-1]), number / fps)


def write_folder(path: Path, frames: np.ndarray) -> None:
    """One PNG picture per frame, numbered from 1."""
    path.mkdir(exist_ok=True)
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(path / f'{number:06d}.png'), frame)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding='utf-8')


def export(dataset: ShapesVideoDataset, out: Path, as_folders: bool) -> None:
    """Write the videos of a data set that has its truth, and the files about them."""
    for folder in ('video', 'annotation'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    entries = []
    for index in track_iter_progress(range(len(dataset))):
        record = dataset.get_data_info(index)
        name, frames = record['video_id'], dataset.render(index, range(record['num_frames']))
        if as_folders:
            write_folder(out / 'video' / name, frames)
        else:
            write_mp4(out / 'video' / f'{name}.mp4', frames, record['fps'])
        _write_json(out / 'annotation' / f'{name}.json', box_file(record))
        entries.append(sentence_entry(record))
    _write_json(out / f'{dataset.split}_annotations.json', entries)
    _write_json(out / f'{dataset.split}_files.json', [entry['vid'] for entry in entries])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--num', type=int, default=100, help='number of videos')
    parser.add_argument('--split', default='train', help='other names give other videos')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--side', type=int, default=64, help='of the picture in px, even')
    parser.add_argument('--num-frames', type=int, default=32, help='frames per video')
    parser.add_argument('--frames', action='store_true', help='folders of frames, not mp4 files')
    args = parser.parse_args()
    if args.side % 2:
        parser.error('--side must be even: mp4 files store colour for 2 x 2 pixels')
    with concise_errors():
        dataset = ShapesVideoDataset(
            num_videos=args.num,
            split=args.split,
            seed=args.seed,
            side=args.side,
            num_frames=args.num_frames,
            test_mode=True,
        )
        export(dataset, args.out, args.frames)
    print(f'{args.out}: {len(dataset)} videos of split {args.split}')


if __name__ == '__main__':
    main()
