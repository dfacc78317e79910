"""Run a detector over the pictures of a data set, or convert published detections, for ReIR.

    python tools/analysis_tools/extract_proposals.py faster-rcnn_r50_fpn_1x_coco \\
        faster_rcnn_r50.pth reir_r101_flickr30k --out data/flickr30k/proposals
    python tools/analysis_tools/extract_proposals.py --bottom-up precomp_annos.pkl \\
        --classes objects_vocab.txt --out data/flickr30k/proposals

Writes the folder that LoadBoxProposals(proposal_file=...) reads: the best boxes of every picture,
in pixels of the original, with score and label. Each picture is seen once, however many queries it
has. ReIR compares phrases with the labels: of bottom-up files, only those that have some are of use to
it (ReIR's own pickle as above, .tsv of 10 fields, .npz with objects_id; not the .tsv of 6 fields that
bottom-up attention published). The class names are stored with the boxes, and
tools/misc/build_reir_text.py --categories takes them from there. A run that was stopped goes on when
started again; pictures of further data sets are added by the same command with another
DATASET-CONFIG.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from extraction import (
    Pictures,
    add_key_option,
    add_options,
    fill,
    summary,
    warn_of_random_weights,
)
from mmdet.structures import DetDataSample
from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mmvg.apis import BoxDetector, concise_errors, load_config
from mmvg.datasets.bottom_up_files import read_bottom_up
from mmvg.datasets.proposal_writer import ProposalWriter


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', nargs='?', help="detector: a config file, or the name of one of mmdet's")
    add('checkpoint', nargs='?', help="its weights; 'none' for random ones, to try things out")
    add('dataset', nargs='?', metavar='dataset-config', help='config whose pictures are seen')
    add('--out', required=True, help='the proposal file (a folder)')
    add('--bottom-up', nargs='+', metavar='FILE', help='convert .tsv, .npz or .pkl files instead')
    add('--features', choices=['float16', 'float32'], help='keep those of --bottom-up files')
    add('--classes', help='text file with the name of a class per line, if the weights lack them')
    add('--max-boxes', type=int, default=50, help='per picture (default: %(default)s)')
    add(
        '--score-thr',
        type=float,
        default=0.01,
        help="least score, in place of the detector's, which is meant for few sure boxes "
        '(default: %(default)s)',
    )
    add(
        '--class-agnostic',
        action='store_true',
        help='let NMS keep a box once, with its best label, as bottom-up attention does',
    )
    add_key_option(parser)
    add_options(parser, batch_size=4)
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='of the data set')
    args = parser.parse_args()
    if bool(args.bottom_up) == bool(args.dataset):
        parser.error('give either CONFIG CHECKPOINT DATASET-CONFIG or --bottom-up FILE')
    return args


def detect(args: argparse.Namespace) -> None:
    """Fill the file with the detector's boxes of the pictures that it lacks."""
    data_cfg = load_config(args.dataset, args.cfg_options)
    init_default_scope('mmdet')
    warn_of_random_weights(args.checkpoint)
    detector = BoxDetector(
        args.config,
        args.checkpoint,
        args.device,
        args.max_boxes,
        args.score_thr,
        args.class_agnostic,
        class_names(args),
    )
    pictures = Pictures(data_cfg, args.split, args.key)
    pictures.pipeline = detector.pipeline
    meta = dict(
        detector=detector.name,
        checkpoint='random weights' if args.checkpoint == 'none' else Path(args.checkpoint).name,
        score_thr=args.score_thr,
        class_agnostic=args.class_agnostic,
        max_boxes=args.max_boxes,
        classes=detector.classes,
    )
    with ProposalWriter(args.out, meta) as writer:

        def write(key: str, sample: DetDataSample) -> None:
            found = sample.pred_instances.numpy()
            add(writer, key, found, sample.ori_shape[:2], args.max_boxes)

        fill(writer, pictures, args, detector.predict, write)
    print(summary(args.out, 'pictures', writer.counts()))


def class_names(args: argparse.Namespace) -> list[str] | None:
    """Lines of --classes."""
    return Path(args.classes).read_text(encoding='utf-8').splitlines() if args.classes else None


def add(writer: ProposalWriter, key: str, found, size: tuple | None, max_boxes: int) -> None:
    """Write the best boxes of a picture."""
    best = np.argsort(-found.scores, kind='stable')[:max_boxes]
    features = getattr(found, 'features', None)
    writer.add(
        key,
        found.bboxes[best],
        found.scores[best],
        found.labels[best],
        size,
        None if features is None else features[best],
    )


def convert(args: argparse.Namespace) -> None:
    """Fill the file from published detections."""
    meta = dict(
        detector='bottom-up',
        features=args.features,
        max_boxes=args.max_boxes,
        classes=class_names(args),
    )
    lacking = set()
    with ProposalWriter(args.out, meta) as writer:
        for path in args.bottom_up:
            for found in read_bottom_up(path, bool(args.features), writer.done):
                if found.features is not None:
                    found = found._replace(features=found.features.astype(args.features))
                add(writer, found.key, found, found.size, args.max_boxes)
                if len(found.labels) and (found.labels == -1).all():
                    lacking.add(path)
                if len(writer.done) % 1000 == 0:
                    print(f'{len(writer.done)} pictures', file=sys.stderr)
    for path in sorted(lacking):
        print(
            f'WARNING: {path} has no labels for some pictures (-1 is stored): ReIR needs them for '
            'its category similarity; without scores, the first boxes of the file were kept',
            file=sys.stderr,
        )
    print(summary(args.out, 'pictures', writer.counts()))


def main() -> None:
    args = parse_args()
    with concise_errors():  # to the end: a picture that cannot be read is the user's to mend
        convert(args) if args.bottom_up else detect(args)


if __name__ == '__main__':
    main()
