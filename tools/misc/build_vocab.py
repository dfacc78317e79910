"""Make a BERT vocabulary from the queries of a config's training set.

For training a small language model from scratch on your own data, where no pretrained BERT fits or
none can be downloaded. The result serves as ``tokenizer`` of TokenizeQueries.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from tokenizers import BertWordPieceTokenizer

from mmvg.apis import concise_errors, load_config, split_datasets
from mmvg.datasets.atomic_output import atomic_output


def training_queries(cfg: Config) -> Iterator[str]:
    """Every query of the training set, without opening a picture."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    for _, part in split_datasets(cfg, ['train']):
        dataset = DATASETS.build({**part, 'pipeline': []})
        for i in range(len(dataset)):
            yield from dataset.get_data_info(i)['queries']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument('--out', type=Path, required=True, help='vocab.txt to write')
    parser.add_argument(
        '--size', type=int, default=2000, help='most entries; the model needs vocab_size >= this'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    with concise_errors():
        cfg = load_config(args.config, args.cfg_options)
        tokenizer = BertWordPieceTokenizer(lowercase=True)
        tokenizer.train_from_iterator(
            training_queries(cfg), vocab_size=args.size, min_frequency=1, show_progress=False
        )
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    with atomic_output(args.out) as f:
        f.writelines(f'{token}\n' for token, _ in vocab)
    print(f'{args.out}: {len(vocab)} entries')


if __name__ == '__main__':
    main()
