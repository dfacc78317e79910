"""Look at what a model is fed: pictures after augmentation, with queries, boxes and padding."""

import argparse
import re
from pathlib import Path

import mmcv
import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress

from mmvg.apis import concise_errors, load_config
from mmvg.visualization import draw_grounding


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument('--out-dir', default='outputs/browse', help='default: %(default)s')
    parser.add_argument(
        '--num', type=int, default=20, help='how many samples (default: %(default)s)'
    )
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config entries',
    )
    return parser.parse_args()


def draw_input(packed: dict) -> np.ndarray:
    """Picture of one network input; outside the white frame (content box) is padding."""
    sample = packed['data_samples']
    image = np.ascontiguousarray(packed['inputs'].permute(1, 2, 0).numpy()[..., ::-1])
    boxes = None
    if 'gt_instances' in sample:
        boxes = sample.gt_instances.bboxes
        boxes = (boxes if hasattr(boxes, 'numpy') else boxes.tensor).numpy()
    height, width = sample.ori_shape
    caption = f'canvas {image.shape[1]} x {image.shape[0]}, original {width} x {height}'
    if sample.get('flip'):
        caption += ', flipped'
    return draw_grounding(
        image, sample.queries, gt_bboxes=boxes, frame=sample.get('content_box'), caption=caption
    )


def main() -> None:
    args = parse_args()
    with concise_errors():
        cfg = load_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        loader = cfg.get(f'{args.split}_dataloader')
        if loader is None:
            raise ValueError(f'{args.config} has no {args.split}_dataloader')
        dataset = DATASETS.build(loader.dataset)
    for i in track_iter_progress(list(range(min(args.num, len(dataset))))):
        packed = dataset[i]
        name = re.sub(
            r'[^\w.-]+', '-', Path(packed['data_samples'].get('img_path') or 'image').stem
        )
        mmcv.imwrite(
            draw_input(packed)[..., ::-1],
            str(Path(args.out_dir) / f'{args.split}_{i:06d}_{name}.jpg'),
        )
    print(f'\npictures are in {args.out_dir}')


if __name__ == '__main__':
    main()
