"""Look at what a model is fed: pictures after augmentation, with queries, boxes and padding."""

import argparse
import random
import re
from pathlib import Path

import mmcv
import numpy as np
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress

from mmvg.apis import class_of, concise_errors, load_config, split_datasets
from mmvg.datasets import VideoGroundingDataset
from mmvg.visualization import caption_of, draw_grounding


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument('--out-dir', default='outputs/browse', help='default: %(default)s')
    parser.add_argument(
        '--num', type=int, default=20, help='how many samples (default: %(default)s)'
    )
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train')
    parser.add_argument(
        '--seed', type=int, help='choose the samples at random (default: the first ones)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config entries',
    )
    return parser.parse_args()


def check_kind(cfg: Config, split: str) -> None:
    """Raise ValueError if data sets are of videos, before files are asked for that they need."""
    for _, part in split_datasets(cfg, [split]):
        if issubclass(class_of(part), VideoGroundingDataset):
            raise ValueError(
                f'{cfg.filename}: {part.type} is a data set of videos, and this tool draws pictures; '
                'tools/infer.py --videos draws the answers of a model about videos'
            )


def draw_input(packed: dict) -> np.ndarray:
    """Picture of one network input; outside the white frame (content box) is padding."""
    sample, image = packed['data_samples'], packed.get('inputs')
    if image is None or len(image) != 3 or 'queries' not in sample:  # a feature map has more rows
        raise ValueError(
            'the pipeline gives no picture or no queries, and this tool draws both; with LoadRoIFeatures '
            "load the pictures as well, and look at what detectors are fed with MMDetection's tool"
        )
    image = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])
    boxes = None
    if 'bboxes' in sample.get('gt_instances', {}):
        boxes = sample.gt_instances.bboxes
        boxes = (boxes if hasattr(boxes, 'numpy') else boxes.tensor).numpy()
    types = sample.get('query_types') or [None] * len(sample.queries)
    notes = [f'[{kind}]' if kind else '' for kind in types]
    return draw_grounding(
        image,
        sample.queries,
        gt_bboxes=boxes,
        frame=sample.get('content_box'),
        caption=caption(sample, image),
        notes=notes,
        proposals=sample.proposals.bboxes.numpy() if 'proposals' in sample else None,
        **caption_of(sample),
    )


def caption(sample: DetDataSample, image: np.ndarray) -> str:
    """Where the picture comes from and what was done to it."""
    height, width = sample.ori_shape
    parts = [f'canvas {image.shape[1]} x {image.shape[0]}', f'original {width} x {height}']
    if sample.get('flip'):
        parts.append('flipped')
    if sample.get('dataset_name'):
        parts.insert(0, sample.dataset_name)
    return ', '.join(parts)


def main() -> None:
    args = parse_args()
    with concise_errors():  # to the end: a picture that cannot be read is the user's to mend
        cfg = load_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        check_kind(cfg, args.split)
        dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
        indices = range(len(dataset))
        if args.seed is not None:
            indices = random.Random(args.seed).sample(indices, len(indices))
        for i in track_iter_progress(list(indices[: args.num])):
            packed = dataset[i]
            stem = Path(packed['data_samples'].get('img_path') or 'image').stem
            safe = re.sub(r'[^\w.-]+', '-', stem)
            name = f'{args.split}_{i:06d}_{safe}.jpg'
            mmcv.imwrite(draw_input(packed)[..., ::-1], str(Path(args.out_dir) / name))
    print(f'\npictures are in {args.out_dir}')


if __name__ == '__main__':
    main()
