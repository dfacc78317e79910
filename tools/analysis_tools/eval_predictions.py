"""Score a dump of tools/test.py --out again: other thresholds, other protocol, no model.

It is rated by the metric of the run that wrote it; without options the figures are the same.
"""

import argparse
import json
from pathlib import Path

from mmdet.registry import METRICS

from mmvg.apis import concise_errors
from mmvg.evaluation import GroundingMetric
from mmvg.evaluation.metrics import video_tube_metric
from mmvg.evaluation.metrics.grounding_metric import DUMP_FORMAT


def read_dump(path: str) -> tuple[list, dict]:
    """The sample entries of a dump and the settings of the run that wrote it."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{path} does not exist; write it with tools/test.py CONFIG CKPT --out {path}'
        )
    try:
        dump = json.loads(Path(path).read_text(encoding='utf-8'))
        samples, meta = dump['samples'], dump['meta']
        written = meta['format']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a dump of tools/test.py --out ({error!r}); write it again'
        ) from error
    if written == video_tube_metric.DUMP_FORMAT:
        raise ValueError(
            f'{path} holds the tubes of a model of videos; only dumps about pictures are rated again: '
            'run tools/test.py with other settings of test_evaluator (--cfg-options)'
        )
    if written != DUMP_FORMAT:
        raise ValueError(
            f'{path} has format {written!r}, this version reads {DUMP_FORMAT!r}; write it again '
            'with tools/test.py --out, or use the version of mmvg that wrote it'
        )
    if not samples or not {'protocol', 'iou_thrs'} <= meta.keys():
        raise ValueError(
            f'{path} holds no sample, or not how they were rated; write it again with tools/test.py --out'
        )
    return samples, meta


def build_metric(meta: dict, **options: object) -> GroundingMetric:
    """The metric of the run that wrote a dump, with other ``options`` where they are not None."""
    config = meta.get('metric', dict(type='GroundingMetric'))  # older dumps do not name it
    if METRICS.get(config['type']) is None:
        raise ValueError(
            f'the dump was rated by {config["type"]}, which is not part of mmvg; rate it with the '
            'code that has it, or remove "metric" from its "meta" for the figures of GroundingMetric'
        )
    config = dict(config, protocol=meta['protocol'], iou_thrs=meta['iou_thrs'])
    return METRICS.build({**config, **{k: v for k, v in options.items() if v is not None}})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', help='predictions.json')
    parser.add_argument(
        '--iou-thrs', nargs='+', type=float, help='default: those of the run that wrote the file'
    )
    parser.add_argument(
        '--protocol',
        choices=['image', 'canvas'],
        help='boxes in the original image, or clamped to the canvas as the official code does; '
        'default: that of the run that wrote the file',
    )
    parser.add_argument(
        '--strict',
        action=argparse.BooleanOptionalAction,
        help='an IoU of exactly the threshold is not enough; default: as in the run',
    )
    parser.add_argument('--out', help='also write the figures to this JSON file')
    args = parser.parse_args()
    with concise_errors():
        samples, meta = read_dump(args.predictions)
        metric = build_metric(
            meta, iou_thrs=args.iou_thrs, protocol=args.protocol, strict=args.strict
        )
        figures = metric.compute_metrics(samples)
    for name, value in figures.items():
        print(f'{name}: {value:.4f}' if isinstance(value, float) else f'{name}: {value}')
    if args.out:
        Path(args.out).write_text(json.dumps(figures, indent=1), encoding='utf-8')


if __name__ == '__main__':
    main()
