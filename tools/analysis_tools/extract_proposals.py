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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar
from torch.utils.data import DataLoader, Dataset

from mmvg.apis import BoxDetector, concise_errors, load_config
from mmvg.datasets.bottom_up_files import read_bottom_up
from mmvg.datasets.proposal_writer import ProposalWriter

_RECORD_KEYS = ('img', 'img_path', 'img_id', 'height', 'width', 'source')


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
    add('--split', nargs='+', choices=['train', 'val', 'test'], default=['train', 'val', 'test'])
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
    add(
        '--key',
        choices=['name', 'id'],
        default='name',
        help='what a picture goes by: its file name (default), or img_id where names repeat',
    )
    add('--batch-size', type=int, default=4, help='default: %(default)s')
    add('--num-workers', type=int, default=2, help='default: %(default)s')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='of the data set')
    args = parser.parse_args()
    if bool(args.bottom_up) == bool(args.dataset):
        parser.error('give either CONFIG CHECKPOINT DATASET-CONFIG or --bottom-up FILE')
    return args


class Pictures(Dataset):
    """The pictures of a data set config, each once, as a detector takes them."""

    def __init__(self, cfg: Config, splits: list[str], key: str) -> None:
        self.pipeline = None
        self._places: dict[str, tuple[BaseDataset, int]] = {}  # key -> first record of the picture
        paths: dict[str, str] = {}
        loaders = [cfg.get(f'{split}_dataloader') for split in splits]
        for part in (p for loader in loaders if loader for p in parts(loader.dataset)):
            dataset = DATASETS.build({**part, 'pipeline': []})
            for i in range(len(dataset)):
                # Not the data set's own: that of generated scenes draws the picture.
                record = BaseDataset.get_data_info(dataset, i)
                path = record.get('img_path') or str(record['img_id'])
                name = Path(path).name if key == 'name' else str(record['img_id'])
                if paths.setdefault(name, path) != path:
                    raise ValueError(
                        f'{paths[name]} and {path} are both called {name!r}; tell them apart with '
                        f'--key {"id" if key == "name" else "name"}, or make two files'
                    )
                self._places.setdefault(name, (dataset, i))
        if not self._places:
            raise ValueError(f'{cfg.filename} has no data set for {", ".join(splits)}')
        self.keys = list(self._places)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict:
        dataset, i = self._places[self.keys[index]]
        record = dataset.get_data_info(i)
        return self.pipeline({k: record[k] for k in _RECORD_KEYS if k in record})


def parts(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The single data sets that a dataset config with wrappers is made of."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    for part in inner:
        yield from parts(part)
    if not inner:
        yield dataset


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
        total = len(pictures)
        pictures.keys = [key for key in pictures.keys if key not in writer.done]
        print(f'{total} pictures, {total - len(pictures)} of them are in {args.out} already')
        loader = DataLoader(
            pictures, args.batch_size, num_workers=args.num_workers, collate_fn=list
        )
        keys, bar = iter(pictures.keys), ProgressBar(len(pictures))
        for batch in loader:
            for sample in detector.predict(batch):
                found = sample.pred_instances.numpy()
                add(writer, next(keys), found, sample.ori_shape[:2], args.max_boxes)
                bar.update()
            writer.commit()  # a picture may take long
    report(writer, args.out)


def warn_of_random_weights(checkpoint: str) -> None:
    """Say what 'none' means."""
    if checkpoint == 'none':
        print(
            'WARNING: the detector has RANDOM WEIGHTS, so its boxes and labels mean nothing. This '
            'is for trying things out only; give a checkpoint for real ones.',
            file=sys.stderr,
        )


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
    report(writer, args.out)


def report(writer: ProposalWriter, out: str) -> None:
    """Say what is in the file."""
    counts = writer.counts()
    print(
        f'\n{out}: {len(counts)} pictures with {sum(counts)} boxes, '
        f'{min(counts, default=0)} to {max(counts, default=0)} each; {counts.count(0)} have none'
    )


def main() -> None:
    args = parse_args()
    with concise_errors():  # to the end: a picture that cannot be read is the user's to mend
        convert(args) if args.bottom_up else detect(args)


if __name__ == '__main__':
    main()
