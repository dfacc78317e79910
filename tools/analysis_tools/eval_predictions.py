"""Score a dump of tools/test.py --out again: other thresholds, other protocol, no model.

Without options it gives the same figures as the run that wrote the file.
"""

import argparse
import json
from pathlib import Path

from mmvg.apis import concise_errors
from mmvg.evaluation.metrics.grounding_metric import _DUMP_FORMAT, GroundingMetric


def read_dump(path: str) -> tuple[list, dict]:
    """The sample entries of a dump and the settings of the run that wrote it."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{path} does not exist; write it with tools/test.py CONFIG CKPT --out {path}'
        )
    try:
        dump = json.loads(Path(path).read_text(encoding='utf-8'))
        samples, meta = dump['samples'], dump['meta']
        written = meta['format'], meta['protocol'], meta['iou_thrs']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a dump of tools/test.py --out ({error!r}); write it again'
        ) from error
    if written[0] != _DUMP_FORMAT:
        raise ValueError(
            f'{path} has format {written[0]!r}, this version reads {_DUMP_FORMAT!r}; write it again '
            'with tools/test.py --out, or use the version of mmvg that wrote it'
        )
    if not samples:
        raise ValueError(f'{path} holds no sample; write it again with tools/test.py --out')
    return samples, meta


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
    parser.add_argument('--out', help='also write the figures to this JSON file')
    args = parser.parse_args()
    with concise_errors():
        samples, meta = read_dump(args.predictions)
        metric = GroundingMetric(
            iou_thrs=args.iou_thrs or meta['iou_thrs'],
            protocol=args.protocol or meta['protocol'],
        )
        figures = metric.compute_metrics(samples)
    for name, value in figures.items():
        print(f'{name}: {value:.4f}' if isinstance(value, float) else f'{name}: {value}')
    if args.out:
        Path(args.out).write_text(json.dumps(figures, indent=1), encoding='utf-8')


if __name__ == '__main__':
    main()
