"""Find the relations between the phrases of captions, and the categories of relations.

    python tools/dataset_converters/parse_relations.py reir_r101_flickr30k data/flickr30k/relations

reads the data sets of a config whose records have captions with phrases, and writes into the folder
a relations_SPLIT.jsonl per split, and from the training set categories.json: the relations that occur
more than --min-count times, with the counts that RelationLoss(class_counts=...) takes. The transform
LoadRelations reads both.

An interrupted run is continued with --resume; a file has its name only when it is complete.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from dataset_entries import build, dataset_configs
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from streaming import tracked

import mmvg  # noqa: F401  (registers the data sets)
from mmvg.apis import concise_errors, load_config
from mmvg.datasets import GroundingDataset
from mmvg.datasets.atomic_output import atomic_output
from mmvg.text.relation_categories import COMPONENTS, RelationCategories, relation_line
from mmvg.text.scene_graph_parser import build_relation_parser


def captions(dataset: GroundingDataset, name: str) -> Iterator[tuple[str, list]]:
    """Caption and spans of every record that has them."""
    found = False
    for i in range(len(dataset)):
        record = dataset.get_data_info(i)
        if record.get('caption') is not None and record.get('query_spans'):
            found = True
            yield record['caption'], [list(span) for span in record['query_spans']]
    if not found:
        raise ValueError(
            f'no record of split {name} has a caption with the places of its phrases; relations need '
            "them, as Flickr30kEntitiesDataset with layout='entities' gives them"
        )


def completed(part: Path) -> tuple[list[dict], int]:
    """The whole lines of an unfinished file, and their length in bytes."""
    if not part.exists():
        return [], 0
    content = part.read_bytes()
    content = content[: content.rfind(b'\n') + 1]
    return [json.loads(line) for line in content.splitlines()], len(content)


def parse_split(
    items: Iterator[tuple[str, list]], parse: Callable, out: Path, parser: str, resume: bool
) -> Counter[str]:
    """Write the relations of one split; returns how often each relation occurs."""
    # The parser is part of the name: relations of two parsers must not end up in one file.
    part = out.with_name(f'.{out.name}.{parser}.part')
    done, length = completed(part) if resume else ([], 0)
    counts = Counter(text for entry in done for *_, text in entry['relations'])
    with open(part, 'r+b' if length else 'wb') as f:
        f.seek(length)
        f.truncate()
        for number, (caption, spans) in enumerate(items):
            if number >= len(done):
                relations = parse(caption, spans)
                counts.update(relation.text for relation in relations)
                f.write(relation_line(caption, spans, relations).encode())
            elif (caption, spans) != (done[number]['caption'], done[number]['spans']):
                raise ValueError(
                    f'{part}:{number + 1} is of another caption than record {number} of the data set; '
                    'remove that file and start again'
                )
        f.flush()
        os.fsync(f.fileno())
    os.replace(part, out)
    return counts


def recount(path: Path) -> Counter[str]:
    """How often each relation occurs in a complete file."""
    with open(path, encoding='utf-8') as f:
        return Counter(text for line in f for *_, text in json.loads(line)['relations'])


def write_categories(args: argparse.Namespace, texts: Counter[str], source: Path) -> None:
    """Write categories.json and say what it holds."""
    categories = RelationCategories.build(texts, args.min_count, args.parts)
    path = args.out / 'categories.json'
    with atomic_output(path) as f:
        f.write(categories.dumps(min_count=args.min_count, parser=args.parser, source=source.name))
    kept = sum(texts[name] for name in categories.names)
    print(
        f'{path}: {len(categories)} of {len(texts)} relations occur more than {args.min_count} times; '
        f'they make {kept} of {sum(texts.values())}'
    )
    if not categories.names:
        print('no category is left: --min-count is too large for this training set')


def run(args: argparse.Namespace) -> None:
    """Parse all splits that were asked for."""
    init_default_scope('mmdet')
    parts = dataset_configs(load_config(args.config, args.cfg_options))
    unknown = sorted(set(args.split or ()) - parts.keys())
    if unknown:
        raise ValueError(f'{args.config} has no split {", ".join(unknown)}, but {", ".join(parts)}')
    parse = build_relation_parser(args.parser, args.spacy_model)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.split or parts:
        out = args.out / f'relations_{name}.jsonl'
        if out.exists() and not (args.resume or args.overwrite):
            raise ValueError(f'{out} exists; give --resume, --overwrite or another folder')
        if out.exists() and args.resume:
            counts = recount(out)
            print(f'{out}: is complete, left as it is')
        else:
            dataset = build(parts[name], as_configured=True)
            items = tracked(captions(dataset, name), f'captions of {name}', len(dataset))
            counts = parse_split(items, parse, out, args.parser, args.resume)
            print(f'{out}: {sum(counts.values())} relations in {len(dataset)} records')
        if name == args.train:
            write_categories(args, counts, out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help="config file, or the name of one of mmvg's configs")
    add('out', type=Path, help='folder to write into')
    add('--split', nargs='+', help='names of data sets of the config; default: all')
    add('--train', default='train', help='name of the data set that gives the categories')
    add('--min-count', type=int, default=100, help='a category occurs more often than this')
    add(
        '--parts',
        choices=COMPONENTS,
        default='listed',
        help="whether verb and preposition of 'sit on' are categories of it as well: if 'sit on' is "
        'one, always, or never',
    )
    add('--parser', choices=['rules', 'scene_graph'], default='rules')
    add('--spacy-model', default='en_core_web_sm', help='of --parser scene_graph')
    add('--resume', action='store_true', help='continue an interrupted run')
    add('--overwrite', action='store_true', help='replace existing files')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    with concise_errors():
        try:
            run(args)
        except ImportError as e:
            raise ValueError(str(e)) from e
        except KeyboardInterrupt:
            print('interrupted; the same command with --resume goes on', file=sys.stderr)
            raise SystemExit(130) from None


if __name__ == '__main__':
    main()
