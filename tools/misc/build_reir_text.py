"""Make the vocabularies and the word table of ReIR from the captions of a config's data sets.

    python tools/misc/build_reir_text.py reir_r101_flickr30k data/flickr30k/text \\
        --categories data/flickr30k/proposals --vectors glove.6B.300d.txt

writes caption_vocab.json and phrase_vocab.json, JSON lists of words from the training set (--scope all:
from all splits, as in the release), and word_table.safetensors, the vectors of phrase words and of
the detector's categories that CategorySimilarity(table=...) compares, with its words once more as
table_words.json. A query of a data set without captions (ReferItGame) is its own caption.

Vectors come from a text file (GloVe, .vec; .gz), bert:FOLDER, clip:NAME:WEIGHTS, or exact: equal
words, in whatever form, have cosine 1 and others 0. Categories are the classes of the proposals, named
by the proposal file itself or by a text file with a line for each, in the order of their labels; one
is the mean of the words before the first comma. Words of the table come from all splits: its vectors
are not learned.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from torch import Tensor
from word_vectors import Vectors, load_vectors

import mmvg  # noqa: F401  (registers the data sets)
from mmvg.apis import SPLITS, concise_errors, load_config, split_datasets
from mmvg.datasets.atomic_output import atomic_output
from mmvg.datasets.proposal_file import ProposalFile
from mmvg.text.vocabulary import Vocabulary, tokenize
from mmvg.text.word_table import WordTable, category_name, compose


def read_texts(cfg: dict) -> Iterator[tuple[list[str], list[str]]]:
    """Captions and phrases of each record, without opening a picture."""
    dataset = DATASETS.build({**cfg, 'pipeline': []})
    for i in range(len(dataset)):
        record = dataset.get_data_info(i)
        caption = record.get('caption')
        if caption is None:
            yield record['queries'], record['queries']
        else:
            # The words of the phrases as the caption has them; a query may have been cleaned.
            words = caption.split()
            yield [caption], [' '.join(words[a:b]) for a, b in record['query_spans']]


def read_all(cfg: Config) -> dict[str, tuple[list[str], list[str]]]:
    """Captions and phrases of each part of a config."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    split_datasets(cfg, ['train'])  # raises without one, of which vocabularies are made
    texts, seen = {split: ([], []) for split in SPLITS}, []
    for split, dataset in split_datasets(cfg):
        files = [dataset.get(k) for k in ('type', 'ann_file', 'split', 'data_root')]
        if files in seen:
            continue  # a test set that has been read for validation
        seen.append(files)
        captions, phrases = texts[split]
        for record_captions, record_phrases in read_texts(dataset):
            captions += record_captions
            phrases += record_phrases
    return texts


def read_categories(path: Path) -> list[str]:
    """First alias of each class of a proposal file, or line of objects_vocab.txt, in lower case."""
    if path.is_dir():
        lines = ProposalFile(path).meta.get('classes')
        if not lines:
            raise ValueError(
                f'proposal file {path} does not name its classes; give a text file with the names of '
                "the detector's classes, one per line, in the order of its labels"
            )
    elif path.is_file():
        lines = path.read_text(encoding='utf-8').splitlines()
    else:
        raise FileNotFoundError(
            f'{path} does not exist; give the proposal file, or the names of the classes that its '
            'detector has, one per line, in the order of its labels, e.g. objects_vocab.txt of '
            "peteanderson80's bottom-up-attention"
        )
    names = [category_name(line) for line in lines]
    if not all(names):
        raise ValueError(
            f'{path}:{names.index("") + 1} has no name; labels are line numbers, so no line may be empty'
        )
    return names


def category_vectors(names: list[str], vectors: Vectors, how: str) -> tuple[Tensor, list[str]]:
    """A row per category, and the names that have no vector, whose row is 0."""
    size = next(iter(vectors.values())).shape[0]
    rows, lost = [], []
    for name in names:
        known = [vectors[word] for word in tokenize(name) if word in vectors]
        rows.append(compose(known, how) if known else torch.zeros(size))
        if not known:
            lost.append(name)
    return torch.stack(rows), lost


def build_table(args: argparse.Namespace, phrases: list[str]) -> WordTable:
    """Look up the words of phrases and categories."""
    names = read_categories(args.categories)
    labels = {word for name in names for word in tokenize(name)}
    spoken = {word for phrase in phrases for word in tokenize(phrase)}
    vectors = load_vectors(args.vectors, spoken | labels, labels, args.tokenizer)
    if not vectors:
        raise ValueError(f'{args.vectors} knows none of the {len(spoken | labels)} words')
    words = sorted(spoken & vectors.keys())
    categories, lost = category_vectors(names, vectors, args.label_compose)
    print(
        f'vectors of {len(words)} of {len(spoken)} phrase words, {categories.shape[1]} dimensions'
    )
    if lost:
        print(f'without a vector, fitting no phrase: {len(lost)} categories, e.g. {lost[:5]}')
    info = dict(vectors=args.vectors, label_compose=args.label_compose)
    rows = [vectors[word] for word in words]
    table = torch.stack(rows) if rows else categories[:0]
    return WordTable(table, categories, words, names, info)


def write(path: Path, content: str | bytes) -> None:
    """Write a file and say so."""
    with atomic_output(path, 'wb') as f:
        f.write(content.encode() if isinstance(content, str) else content)
    print(f'{path} written')


def run(args: argparse.Namespace) -> None:
    """Make all files."""
    texts = read_all(load_config(args.config, args.cfg_options))
    chosen = [texts[part] for part in (SPLITS if args.scope == 'all' else ('train',))]
    # Of all splits, no word is unknown, and the release has no such entry.
    unknown = args.scope == 'train'
    for i, name in enumerate(('caption', 'phrase')):
        counted = (text for part in chosen for text in part[i])
        vocabulary = Vocabulary.build(counted, args.min_count, unknown or args.min_count > 1)
        write(args.out / f'{name}_vocab.json', vocabulary.dumps())
        print(f'{name}s: {len(vocabulary)} ids, 0 included')
    if args.categories is not None:
        table = build_table(args, [phrase for part in SPLITS for phrase in texts[part][1]])
        write(args.out / 'word_table.safetensors', table.dumps())
        write(args.out / 'table_words.json', json.dumps(table.word_list, indent=0) + '\n')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help="config file, or the name of one of mmvg's configs")
    add('out', type=Path, help='folder to write into')
    add('--scope', choices=['train', 'all'], default='train', help='splits of the vocabularies')
    add('--min-count', type=int, default=1, help='rarer words are <unk>')
    add(
        '--categories',
        type=Path,
        metavar='PROPOSALS',
        help='the proposal file, or a text file with the names of its classes in their order, one per '
        'line; without, no word table',
    )
    add('--vectors', default='exact', help='text file, bert:FOLDER, clip:NAME:WEIGHTS, or exact')
    add('--tokenizer', help='vocabulary of the BERT or CLIP, if it is not its own')
    add('--label-compose', choices=['mean', 'first', 'max'], default='mean')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    with concise_errors():
        try:
            run(args)
        except ImportError as e:
            raise ValueError(str(e)) from e


if __name__ == '__main__':
    main()
