"""Run a detector over the sampled frames of videos: boxes, scores and features for VCMA.

    python tools/analysis_tools/extract_video_regions.py faster-rcnn_r101_fpn_2x_coco \\
        faster_rcnn_r101.pth vcma_r101_vidstg --out data/vidstg/regions --features float16

Writes the folder that LoadTubes(region_file=...) reads: of every frame that the data sets of a config
sample, the best boxes in pixels of the original, with scores and features, and the feature of the whole
frame. A video is decoded once, however many sentences it has; its annotated boxes and events are not
read. A run that was stopped goes on when started again; frames of further data sets are added by the
same command with another DATASET-CONFIG.

A folder has one writer. Several devices can extract at once if each has its own splits (--split) and
folder, and the config has that folder as region_file of the LoadTubes of those splits.

Features are those before the branches of a detector's second stage. A detector of one stage has its maps
averaged over each box. One whose maps are not known needs ``roi_extractor = dict(type=
'SingleRoIExtractor', ...)`` in its config.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from extraction import add_options, size_on_disk, summary, warn_of_random_weights
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mmvg.apis import class_of, concise_errors, load_config, split_datasets
from mmvg.apis.region_source import REGION_SETTINGS, build_region_extractor
from mmvg.datasets import VideoGroundingDataset
from mmvg.datasets.video_regions import VideoRegionWriter, frame_key
from mmvg.models import RegionExtractor

# Longer videos are decoded piece by piece.
_MAX_BYTES = 2**29


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help="detector: a config file, or the name of one of mmdet's or mmvg's")
    add('checkpoint', help="its weights; 'none' for random ones, to try things out")
    add('dataset', metavar='dataset-config', help='config whose videos are seen')
    add('--out', required=True, help='the region file (a folder)')
    types = ['float16', 'float32']
    add('--features', choices=types, default='float16', help='default: %(default)s')
    chosen = parser.add_argument_group(
        'which regions', 'by default what the dataset config has as region_extractor, or else:'
    )
    add_choice = chosen.add_argument
    add_choice('--score-thr', type=float, help='least score (0.05)')
    add_choice(
        '--nms',
        dest='nms_iou',
        metavar='IOU',
        type=float,
        help='of two boxes with a larger IoU the better stays, whatever their labels (0.5)',
    )
    add_choice('--max-boxes', type=int, help='per frame (20)')
    add_choice('--layer', choices=['neck', 'backbone'], help='whose maps (neck)')
    add_choice(
        '--average',
        dest='use_shared_fcs',
        action='store_const',
        const=False,
        help='average maps over boxes in detectors of two stages',
    )
    add_choice(
        '--roi-size', type=int, help='side of the RoIAlign grid of a detector of one stage (7)'
    )
    add_options(parser, batch_size=8, unit='frames')
    add('--skip-broken', action='store_true', help='leave out videos that cannot be decoded')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='of the data set')
    return parser.parse_args()


@dataclass
class Video:
    """A video, the transform that loads it, and the frames that are wanted of it."""

    path: str
    dataset: BaseDataset
    index: int  # of its first record
    load: Callable[[dict], dict]
    frames: set[int] = field(default_factory=set)


class Frame(NamedTuple):
    """A frame as a detector takes it, or what is wrong with its video."""

    video_id: str
    frame_id: int
    prepared: dict | None = None
    problem: str | None = None
    is_broken: bool = False


class Frames(IterableDataset):
    """Sampled frames of videos; every worker decodes its own videos.

    Args:
        videos (dict[str, Video]): By id.
        pipeline (Callable): Prepares a frame for the detector.
    """

    def __init__(self, videos: dict[str, Video], pipeline: Callable[[dict], dict]) -> None:
        self.videos = videos
        self.pipeline = pipeline

    def __iter__(self) -> Iterator[Frame]:
        worker = get_worker_info()
        share = slice(worker.id, None, worker.num_workers) if worker else slice(None)
        for video_id in list(self.videos)[share]:
            video = self.videos[video_id]
            try:
                for frame_id, frame in read(video):
                    prepared = self.pipeline(dict(img=frame, img_id=frame_id))
                    yield Frame(video_id, frame_id, prepared)
            except (OSError, ValueError) as e:
                yield Frame(video_id, -1, problem=str(e), is_broken=True)
            except ImportError as e:  # a worker's errors would come with its traceback
                yield Frame(video_id, -1, problem=str(e))


def read(video: Video) -> Iterator[tuple[int, np.ndarray]]:
    """Wanted frames with their ids, ascending."""
    record = video.dataset.get_data_info(video.index)
    wanted = sorted(video.frames)
    piece = max(1, _MAX_BYTES // (record['height'] * record['width'] * 3))
    for begin in range(0, len(wanted), piece):
        ids = wanted[begin : begin + piece]
        yield from zip(ids, video.load(dict(record, frame_ids=ids))['frames'], strict=True)


def find_videos(cfg: Config, splits: list[str]) -> dict[str, Video]:
    """All videos of a config by id, with the frames that its pipelines sample."""
    videos: dict[str, Video] = {}
    for _, part in split_datasets(cfg, splits):
        if not issubclass(class_of(part), VideoGroundingDataset):
            raise ValueError(f'{cfg.filename}: {part.type} is no data set of videos')
        dataset = DATASETS.build({**part, 'pipeline': [], 'with_truth': False})
        sample, load = None, TRANSFORMS.build(_loading_step(part))
        for i in range(len(dataset)):
            # Not the data set's own, which may do more.
            record = BaseDataset.get_data_info(dataset, i)
            sample = sample or _sampling_steps(part, record, cfg.filename)
            path = record['video_path']
            video = videos.setdefault(record['video_id'], Video(path, dataset, i, load))
            if video.path != path:
                raise ValueError(
                    f'{video.path} and {path} are both called {record["video_id"]!r}; put them '
                    'into two files, with --split or two configs'
                )
            video.frames.update(sample(record)['frame_ids'].tolist())
    return videos


def _sampling_steps(part: ConfigDict, record: dict, filename: str) -> Compose:
    """The steps of a pipeline up to the one that chooses frames; others may need regions."""
    steps = []
    for step in part.get('pipeline') or ():
        steps.append(TRANSFORMS.build(step))
        record = steps[-1](dict(record))
        if 'frame_ids' in record:
            return Compose(steps)
    raise ValueError(
        f'{filename}: no step in the pipeline of {part.type} chooses frames; put SampleFrames there'
    )


def _loading_step(part: ConfigDict) -> dict:
    """How a pipeline loads frames; the default where it reads regions in their place."""
    steps = [step for step in part.get('pipeline') or () if step['type'] == 'LoadVideoFrames']
    return steps[0] if steps else dict(type='LoadVideoFrames')


def build_extractor(args: argparse.Namespace, data_cfg: Config) -> tuple[RegionExtractor, dict]:
    """The extractor and the description of what it makes."""
    warn_of_random_weights(args.checkpoint)
    given = {name: getattr(args, name) for name in REGION_SETTINGS}
    settings = {name: value for name, value in given.items() if value is not None}
    settings = {**(data_cfg.get('region_extractor') or {}), **settings}
    return build_region_extractor(
        args.config, args.checkpoint, args.device, args.batch_size, **settings
    )


def extract(args: argparse.Namespace) -> None:
    """Fill the file with the frames that it lacks."""
    data_cfg = load_config(args.dataset, args.cfg_options)
    init_default_scope('mmdet')
    videos = find_videos(data_cfg, args.split)
    extractor, meta = build_extractor(args, data_cfg)
    broken: dict[str, str] = {}
    with VideoRegionWriter(args.out, meta, dtype=args.features) as writer:
        total = sum(len(video.frames) for video in videos.values())
        for video_id, video in videos.items():
            video.frames = {i for i in video.frames if frame_key(video_id, i) not in writer.done}
        lacking = {video_id: video for video_id, video in videos.items() if video.frames}
        count = sum(len(video.frames) for video in lacking.values())
        print(
            f'{total} frames of {len(videos)} videos, {total - count} of them are in {args.out} '
            'already'
        )
        loader = DataLoader(
            Frames(lacking, extractor.pipeline),
            args.batch_size,
            num_workers=args.num_workers,
            collate_fn=list,
        )
        bar = ProgressBar(count)
        for batch in loader:
            frames = [frame for frame in batch if frame.prepared is not None]
            regions = extractor.predict([frame.prepared for frame in frames])
            for frame, found in zip(frames, regions, strict=True):
                writer.add_frame(frame.video_id, frame.frame_id, found)
                bar.update()
            for frame in batch:
                if frame.problem:
                    broken[frame.video_id] = excuse(frame, args.skip_broken)
    report(writer, args.out, broken)


def excuse(frame: Frame, skip_broken: bool) -> str:
    """What is wrong with a video that may be left out; others end the run."""
    if frame.is_broken and skip_broken:
        return frame.problem
    remedy = '; or leave such videos out with --skip-broken' if frame.is_broken else ''
    raise ValueError(f'video {frame.video_id}: {frame.problem}{remedy}')


def report(writer: VideoRegionWriter, out: str, broken: dict[str, str]) -> None:
    """Say what is in the file, and what is not."""
    counts = [count - 1 for count in writer.counts()]  # less the whole frame
    print(f'{summary(out, "frames", counts)}; {size_on_disk(out)}')
    if broken:
        print(
            f'WARNING: left out {len(broken)} videos that cannot be decoded, in whole or in part; '
            "set invalid='skip' of the data sets, or mend them and start this command again:",
            *(f'  {video_id}: {problem}' for video_id, problem in broken.items()),
            sep='\n',
            file=sys.stderr,
        )


def main() -> None:
    args = parse_args()
    with concise_errors():  # to the end: a video that cannot be read is the user's to mend
        extract(args)


if __name__ == '__main__':
    main()
