"""The relations worth a class of their own, and files with the relations of captions."""

import hashlib
import json
import os.path as osp
from collections import Counter
from collections.abc import Iterable, Sequence

from .relation_parser import Relation, components

COMPONENTS = ('listed', 'always', 'never')
_REMEDY = 'make it with tools/dataset_converters/parse_relations.py CONFIG {}'


class RelationCategories:
    """Categories of relations and how often each occurs in training (spec reir 1.7, A43).

    Args:
        names (Sequence[str]): Canonical relations; the index is the category.
        counts (Sequence[int]): Number of training relations that have each category, for
            ``RelationLoss(class_counts=...)``.
        parts (str): When the verb and the preposition of a relation ('sit' and 'on' of 'sit on')
            are categories of it, too: ``'listed'``: if the whole is a category; ``'always'``; or
            ``'never'``.
    """

    def __init__(self, names: Sequence[str], counts: Sequence[int], parts: str = 'listed') -> None:
        if parts not in COMPONENTS:
            raise ValueError(f'parts must be one of {COMPONENTS}, not {parts!r}')
        if len(names) != len(counts) or len(set(names)) < len(names):
            raise ValueError(
                f'{len(counts)} counts for {len(set(names))} distinct names of {len(names)}; each '
                'category must be listed once and have one count'
            )
        self.names = list(names)
        self.counts = list(counts)
        self.parts = parts
        self._ids = {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def build(
        cls, texts: Counter[str], min_count: int = 100, parts: str = 'listed'
    ) -> 'RelationCategories':
        """Every relation that occurs more than ``min_count`` times, the most frequent first.

        Args:
            texts (Counter): How often each canonical relation occurs in the training set.
        """
        kept = sorted((-count, text) for text, count in texts.items() if count > min_count)
        names = [text for _, text in kept]
        unweighted = cls(names, [0] * len(names), parts)
        counts = Counter()
        for text, count in texts.items():
            counts.update(dict.fromkeys(unweighted.label(text), count))
        return cls(names, [counts[i] for i in range(len(names))], parts)

    @classmethod
    def load(cls, path: str) -> 'RelationCategories':
        """Read a category file.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is something else.
        """
        if not osp.isfile(path):
            raise FileNotFoundError(f'relation categories {path} do not exist; {_remedy(path)}')
        with open(path, encoding='utf-8') as f:
            try:
                content = json.load(f)
                return cls(content['categories'], content['counts'], content['parts'])
            except (ValueError, KeyError, TypeError) as e:
                raise ValueError(
                    f'{path} is no file of relation categories ({e}); {_remedy(path)}'
                ) from e

    def dumps(self, **info: object) -> str:
        """Content of the file that :meth:`load` reads; ``info`` tells how it was made."""
        content = dict(categories=self.names, counts=self.counts, parts=self.parts, **info)
        return json.dumps(content, ensure_ascii=False, indent=1) + '\n'

    def label(self, text: str) -> list[int]:
        """Categories of a canonical relation; none is usual for rare ones."""
        whole, *rest = components(text)
        if self.parts == 'never' or (self.parts == 'listed' and whole not in self._ids):
            rest = []
        return [self._ids[name] for name in (whole, *rest) if name in self._ids]


def count_categories(categories: int | str) -> int:
    """Number of categories: as given, or that of a category file."""
    return len(RelationCategories.load(categories)) if isinstance(categories, str) else categories


def relation_line(
    caption: str, spans: Sequence[Sequence[int]], relations: Iterable[Relation]
) -> str:
    """One caption in a relation file."""
    line = dict(caption=caption, spans=[list(s) for s in spans], relations=[*map(list, relations)])
    return json.dumps(line, ensure_ascii=False) + '\n'


class RelationFile:
    """Relations of captions, read from their lines when they are asked for.

    A relation belongs to a caption and its phrases, whatever the picture: the same caption with the
    same phrases may stand in several data sets.

    Args:
        path (str): A file of :func:`relation_line`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a line is not one of such a file.
    """

    def __init__(self, path: str) -> None:
        if not osp.isfile(path):
            raise FileNotFoundError(f'relation file {path} does not exist; {_remedy(path)}')
        self.path = path
        self._offsets, offset = {}, 0
        with open(path, 'rb') as f:
            for number, line in enumerate(f, 1):
                try:
                    entry = json.loads(line)
                    self._offsets[_key(entry['caption'], entry['spans'])] = offset
                    entry['relations']
                except (ValueError, KeyError, TypeError) as e:
                    raise ValueError(
                        f'{path}:{number} is no line of a relation file ({e}); {_remedy(path)}'
                    ) from e
                offset += len(line)

    def __len__(self) -> int:
        return len(self._offsets)

    def find(self, caption: str, spans: Sequence[Sequence[int]]) -> list[Relation]:
        """Relations of a caption with these phrases.

        Raises:
            ValueError: If the file does not have it.
        """
        offset = self._offsets.get(_key(caption, spans))
        if offset is None:
            raise ValueError(
                f'{self.path} lacks the caption {caption!r} with its phrases; {_remedy(self.path)} from '
                'this data set'
            )
        with open(self.path, 'rb') as f:
            f.seek(offset)
            return [Relation(*relation) for relation in json.loads(f.readline())['relations']]


def _remedy(path: str) -> str:
    return _REMEDY.format(osp.dirname(path) or '.')


def _key(caption: str, spans: Sequence[Sequence[int]]) -> bytes:
    text = json.dumps([caption, [[int(a), int(b)] for a, b in spans]])
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
