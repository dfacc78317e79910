"""Score a dump of tools/test.py --out again: other thresholds, other protocol, no model.

Without options it gives the same figures as the run that wrote the file.
"""

import argparse
import json
from pathlib import Path

from mmvg.apis import concise_errors
from mmvg.evaluation.metrics.grounding_metric import GroundingMetric


def read_samples(path: str) -> list:
    """The sample entries of a dump."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{path} does not exist; write it with tools/test.py CONFIG CKPT --out {path}'
        )
    try:
        samples = json.loads(Path(path).read_text(encoding='utf-8'))['samples']
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a dump of tools/test.py --out ({error!r}); write it again'
        ) from error
    if not samples:
        raise ValueError(f'{path} holds no sample')
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', help='predictions.json')
    parser.add_argument('--iou-thrs', nargs='+', type=float, default=[0.5], help='default: 0.5')
    parser.add_argument(
        '--protocol',
        choices=['image', 'canvas'],
        default='image',
        help='boxes in the original image, or clamped to the canvas as the official code does',
    )
    parser.add_argument('--out', help='also write the figures to this JSON file')
    args = parser.parse_args()
    with concise_errors():
        metric = GroundingMetric(iou_thrs=tuple(args.iou_thrs), protocol=args.protocol)
        figures = metric.compute_metrics(read_samples(args.predictions))
    for name, value in figures.items():
        print(f'{name}: {value:.4f}' if isinstance(value, float) else f'{name}: {value}')
    if args.out:
        Path(args.out).write_text(json.dumps(figures, indent=1), encoding='utf-8')


if __name__ == '__main__':
    main()
