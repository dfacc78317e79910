"""Find what texts mean in pictures or videos: annotated ones and predictions.json in --out-dir.

One picture takes all texts, several pictures take one text each or one for all:
    python tools/infer.py CONFIG CKPT --images street.jpg --texts "the red car" "man on the left"
ReIR finds every phrase of a text among the boxes of a detector (by default those of the config's
proposal file); phrases are those in brackets, or found by rule:
    python tools/infer.py CONFIG CKPT --images street.jpg --texts "[a man] next to [a red car]" \\
        --detector faster-rcnn_r50_fpn_1x_coco faster_rcnn_r50.pth
VCMA finds when and where something is in a video, among the tubes of the detector that it was trained
with: per sentence a clip, a sheet of key frames, and the tube in predictions.json:
    python tools/infer.py CONFIG CKPT --videos dogs.mp4 --texts "a dog runs after a ball" \\
        --detector faster-rcnn_r101_fpn_2x_coco faster_rcnn_r101.pth
"""

import argparse

from mmengine.config import Config, DictAction

from mmvg.apis import (
    GroundingInferencer,
    VideoGroundingInferencer,
    check_together,
    concise_errors,
    load_config,
)
from mmvg.datasets.video_file import import_av


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument('checkpoint', help='checkpoint file')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--images', nargs='+', metavar='FILE', help='picture files, or one folder')
    source.add_argument(
        '--videos',
        nargs='+',
        metavar='FILE',
        help='video files, or folders with one picture per frame',
    )
    parser.add_argument(
        '--texts', nargs='+', required=True, help='queries or captions, each in quotes'
    )
    parser.add_argument(
        '--detector',
        nargs=2,
        metavar=('CONFIG', 'CKPT'),
        help="where ReIR and VCMA have boxes from: config file or name of one of mmdet's, and its "
        'weights',
    )
    parser.add_argument('--out-dir', default='outputs', help='default: %(default)s')
    parser.add_argument('--device', help='e.g. cpu or cuda:0 (default: the best available)')
    parser.add_argument('--batch-size', type=int, help='pictures per forward pass (default: 1)')
    parser.add_argument('--fps', type=float, help='frames per second of folders of frames')
    parser.add_argument('--show', action='store_true', help='open each picture in a window')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config entries',
    )
    args = parser.parse_args()
    # What the other kind of source has no use for.
    for_other = dict(videos=('batch_size', 'show'), images=('fps',))
    for name in for_other['videos' if args.videos else 'images']:
        if getattr(args, name) not in (None, False):
            other = '--images' if args.videos else '--videos'
            parser.error(f'--{name.replace("_", "-")} goes with {other} only; leave it out')
    return args


def ground_images(args: argparse.Namespace, cfg: Config) -> None:
    """Write annotated pictures and predictions.json."""
    with concise_errors():
        inferencer = GroundingInferencer(cfg, args.checkpoint, args.device, args.detector)
        images = args.images[0] if len(args.images) == 1 else args.images
        batch_size = 1 if args.batch_size is None else args.batch_size
        result = inferencer(images, args.texts, batch_size, args.out_dir, args.show)
    for prediction in result['predictions']:
        for query, box in zip(prediction['queries'], prediction['bboxes'], strict=True):
            print(f'{prediction["image"]}: {query!r} -> {[round(v, 1) for v in box]}')
    print(f'pictures and predictions.json are in {args.out_dir}')


def ground_videos(args: argparse.Namespace, cfg: Config) -> None:
    """Write annotated clips, sheets of key frames and predictions.json."""
    with concise_errors():
        check_together([import_av])
        inferencer = VideoGroundingInferencer(cfg, args.checkpoint, args.device, args.detector)
        result = inferencer(args.videos, args.texts, args.out_dir, args.fps)
    for prediction in result['predictions']:
        (begin, end), box = prediction['span_seconds'], prediction['bboxes'][0]
        print(
            f'{prediction["video"]}: {prediction["query"]!r} -> {begin:.1f} to {end:.1f} s, at first '
            f'{box}: {prediction["clip"]}'
        )
    print(f'clips, key frames and predictions.json are in {args.out_dir}')


def main() -> None:
    args = parse_args()
    with concise_errors():
        cfg = load_config(args.config, args.cfg_options)
    (ground_images if args.images else ground_videos)(args, cfg)


if __name__ == '__main__':
    main()
