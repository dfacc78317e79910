"""What the extractors of boxes and features share: options, pictures, the loop that goes on."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.utils import ProgressBar
from torch.utils.data import DataLoader, Dataset

from mmvg.apis import SPLITS, split_datasets
from mmvg.datasets.proposal_writer import ProposalWriter

_RECORD_KEYS = ('img', 'img_path', 'img_id', 'height', 'width', 'source')


def add_options(parser: argparse.ArgumentParser, batch_size: int, unit: str = 'pictures') -> None:
    """What every extractor can be told."""
    add = parser.add_argument
    add('--split', nargs='+', choices=SPLITS, default=list(SPLITS))
    add('--batch-size', type=int, default=batch_size, help=f'{unit} (default: %(default)s)')
    add('--num-workers', type=int, default=2, help='default: %(default)s')
    add('--device', default=get_device(), help='default: the best available')


def add_key_option(parser: argparse.ArgumentParser) -> None:
    """What extractors of pictures can be told as well."""
    parser.add_argument(
        '--key',
        choices=['name', 'id'],
        default='name',
        help='what a picture goes by: its file name (default), or img_id where names repeat',
    )


class Pictures(Dataset):
    """The pictures of a data set config, each once, as a detector takes them."""

    def __init__(self, cfg: Config, splits: list[str], key: str) -> None:
        self.pipeline = None
        self._places: dict[str, tuple[BaseDataset, int]] = {}  # key -> first record of the picture
        paths: dict[str, str] = {}
        for _, part in split_datasets(cfg, splits):
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
        self.keys = list(self._places)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict:
        record = self.record(index)
        return self.pipeline({k: record[k] for k in _RECORD_KEYS if k in record})

    def record(self, index: int) -> dict:
        """First record of a picture."""
        dataset, i = self._places[self.keys[index]]
        return dataset.get_data_info(i)


def fill(
    writer: ProposalWriter,
    pictures: Pictures,
    args: argparse.Namespace,
    compute: Callable[[object], Iterable],
    write: Callable[[str, object], None],
    collate: Callable[[list], object] = list,
) -> None:
    """Compute and write, batch by batch, the pictures that a file lacks.

    Args:
        writer (ProposalWriter): Of the file.
        pictures (Pictures): Those that are to be in it.
        args (argparse.Namespace): The options above, and ``out``.
        compute (Callable): A collated batch -> a result per picture.
        write (Callable): Takes the key of a picture and its result.
        collate (Callable): Makes batches.
    """
    total = len(pictures)
    pictures.keys = [key for key in pictures.keys if key not in writer.done]
    print(f'{total} pictures, {total - len(pictures)} of them are in {args.out} already')
    loader = DataLoader(pictures, args.batch_size, num_workers=args.num_workers, collate_fn=collate)
    keys, bar = iter(pictures.keys), ProgressBar(len(pictures))
    for batch in loader:
        for found in compute(batch):
            write(next(keys), found)
            bar.update()
        writer.commit()  # a picture may take long


def warn_of_random_weights(checkpoint: str) -> None:
    """Say what 'none' means."""
    if checkpoint == 'none':
        print(
            'WARNING: the detector has RANDOM WEIGHTS, so its boxes and labels mean nothing. This '
            'is for trying things out only; give a checkpoint for real ones.',
            file=sys.stderr,
        )


def summary(out: str, what: str, counts: Sequence[int]) -> str:
    """What is in a file: the numbers of boxes of all pictures, or frames."""
    return (
        f'\n{out}: {len(counts)} {what} with {sum(counts)} boxes, '
        f'{min(counts, default=0)} to {max(counts, default=0)} each; {counts.count(0)} have none'
    )


def size_on_disk(out: str) -> str:
    """Of a file, which is a folder."""
    size = sum(path.stat().st_size for path in Path(out).iterdir())
    return f'{size / 2**20:.1f} MiB on disk'
