"""The predicates that a relation likelihood knows, and how often training sentences use them."""

import json
import os.path as osp
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from .query_graph import ParsedQuery
from .relation_parser import components
from .vocabulary import UNKNOWN

_REMEDY = 'make it with tools/misc/build_predicates.py DATASET-CONFIG --out {}'.format


class PredicateVocabulary:
    """Ids of predicates; 0 is ``'<unk>'`` (spec vcma 1.3).

    Args:
        predicates (Sequence[str]): ``'<unk>'``, then the predicates in canonical form.
        counts (Sequence[int]): How many training relations have each id.
        source (str): Where they came from, for error messages.
    """

    def __init__(
        self, predicates: Sequence[str], counts: Sequence[int], source: str = 'predicates'
    ) -> None:
        self.predicates = list(predicates)
        self.counts = list(counts)
        self._ids = {predicate: i for i, predicate in enumerate(self.predicates)}
        if len(self.counts) != len(self.predicates) or len(self._ids) < len(self.predicates):
            raise ValueError(
                f'{source}: {len(self.counts)} counts for {len(self._ids)} distinct predicates of '
                f'{len(self.predicates)}; list each once, with one count; {_REMEDY(source)}'
            )
        if self.predicates[:1] != [UNKNOWN]:
            raise ValueError(
                f'{source}: the first predicate must be {UNKNOWN!r}; {_REMEDY(source)}'
            )
        if any(not isinstance(count, int) or count < 0 for count in self.counts):
            raise ValueError(f'{source}: counts must be numbers from 0 on; {_REMEDY(source)}')

    def __len__(self) -> int:
        """Number of ids, that of ``'<unk>'`` included."""
        return len(self.predicates)

    @classmethod
    def build(
        cls, queries: Iterable[ParsedQuery], size: int = 200, min_count: int = 1
    ) -> 'PredicateVocabulary':
        """The most frequent predicates of parsed training sentences, of equals the first by name.

        Args:
            queries (Iterable[ParsedQuery]): Those of the training set, and of no other.
            size (int): Most predicates, ``'<unk>'`` not counted.
            min_count (int): Rarer ones are left out.
        """
        found = Counter(r.predicate for query in queries for r in query.relations)
        kept = sorted((-count, name) for name, count in found.items() if count >= min_count)
        names = [UNKNOWN, *(name for _, name in kept[:size])]
        unweighted = cls(names, [0] * len(names))
        counts = [0] * len(names)
        for name, count in found.items():
            counts[unweighted.encode(name)] += count
        return cls(names, counts)

    @classmethod
    def load(cls, path: str | Sequence[str]) -> 'PredicateVocabulary':
        """Read a predicate file; or take the predicates themselves, as equally frequent.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is something else.
        """
        if not isinstance(path, str):
            return cls([UNKNOWN, *path], [0] * (len(path) + 1))
        if not osp.isfile(path):
            raise FileNotFoundError(f'predicate file {path} does not exist; {_REMEDY(path)}')
        with open(path, encoding='utf-8') as f:
            try:
                content = json.load(f)
                predicates, counts = content['predicates'], content['counts']
            except (ValueError, KeyError, TypeError) as e:
                raise ValueError(f'{path} is no file of predicates ({e}); {_REMEDY(path)}') from e
        if not all(isinstance(p, str) and p for p in predicates):
            raise ValueError(f'{path}: a predicate is not a word; {_REMEDY(path)}')
        return cls(predicates, counts, path)

    def dumps(self) -> str:
        """Content of the file that :meth:`load` reads."""
        content = dict(predicates=self.predicates, counts=self.counts)
        return json.dumps(content, ensure_ascii=False, indent=1) + '\n'

    def encode(self, predicate: str) -> int:
        """The id of a predicate; of one that is not listed that of its verb, else of its particle.

        'slip_away_from' -> 'slip', 'away_from', or 0.
        """
        whole, *parts = components(predicate.replace('_', ' '))
        names = (name.replace(' ', '_') for name in (whole, *parts))
        return next((self._ids[name] for name in names if name in self._ids), 0)

    def prior(self) -> np.ndarray:
        """Frequency of each id among training relations (pi0 of the spec); float64, sums to 1.

        Each id is counted once more than it occurs, so that none has probability 0.
        """
        counts = np.asarray(self.counts, dtype=np.float64) + 1
        return counts / counts.sum()
