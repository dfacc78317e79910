"""Make the predicate file of VCMA from the sentences of a config's training set.

    python tools/misc/build_predicates.py vcma_r101_vidstg --out data/vidstg/predicates.json

Sentences may also come from a text file (.txt), one per line. The file lists the most frequent
predicates ('hold', 'lean_on', 'in_front_of') with the number of relations that have each; all others
are '<unk>', whose id is 0.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from build_vocab import training_queries
from mmengine.config import DictAction

import mmvg  # noqa: F401  (registers the data sets)
from mmvg.apis import concise_errors, load_config
from mmvg.datasets.atomic_output import atomic_output
from mmvg.text import PredicateVocabulary, QueryParser


def read_sentences(path: Path) -> Iterator[str]:
    """Lines of a text file, empty ones left out."""
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist; give a config or a text file')
    yield from filter(str.strip, path.read_text(encoding='utf-8').splitlines())


def run(args: argparse.Namespace) -> None:
    """Parse all sentences and write the file."""
    if args.source.endswith('.txt'):
        sentences = read_sentences(Path(args.source))
    else:
        sentences = training_queries(load_config(args.source, args.cfg_options))
    parse = QueryParser(args.relations)
    queries = [parse(sentence) for sentence in sentences]
    vocabulary = PredicateVocabulary.build(queries, args.size, args.min_count)
    if len(vocabulary) == 1:
        raise ValueError(f'{args.source}: no predicate in {len(queries)} sentences')
    with atomic_output(args.out) as f:
        f.write(vocabulary.dumps())
    total = sum(vocabulary.counts)
    print(f'{args.out}: {len(vocabulary) - 1} predicates of {len(queries)} sentences')
    print(f'{vocabulary.counts[0]} of {total} relations are <unk>')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('source', help="config file, the name of one of mmvg's configs, or a .txt file")
    add('--out', type=Path, required=True, help='JSON file to write')
    add('--size', type=int, default=200, help='most predicates')
    add('--min-count', type=int, default=1, help='rarer predicates are <unk>')
    add('--relations', choices=['rules', 'scene_graph'], default='rules', help='parser')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    with concise_errors():
        try:
            run(args)
        except ImportError as e:
            raise ValueError(str(e)) from e


if __name__ == '__main__':
    main()
