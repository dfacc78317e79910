"""Word vocabularies: which words have an id, stored as a JSON list."""

import json
import os.path as osp
from collections import Counter
from collections.abc import Iterable, Sequence

UNKNOWN = '<unk>'


def tokenize(text: str) -> list[str]:
    """Words in lower case as spaces divide them; punctuation stays what it is (spec reir 1.3)."""
    return text.lower().split()


class Vocabulary:
    """Ids 1, 2, ... of words; 0 is padding in captions and the end in phrases to be spelled.

    A vocabulary with the word ``'<unk>'`` gives its id to every word that it lacks; without, such a
    word is an error, as in the release of ReIR (A41).

    Args:
        words (Sequence[str]): The word of id 1, of id 2, ...
        source (str): Where it came from, for error messages.
    """

    def __init__(self, words: Sequence[str], source: str = 'vocabulary') -> None:
        self.words = list(words)
        self.source = source
        self._ids = {word: i for i, word in enumerate(self.words, 1)}
        if len(self._ids) != len(self.words):
            (word, count), *_ = Counter(self.words).most_common(1)
            raise ValueError(
                f'{source}: {word!r} is listed {count} times; ids would shift, list each word once'
            )
        self.unknown_id = self._ids.get(UNKNOWN)

    def __len__(self) -> int:
        """Number of ids, 0 included: what an embedding table needs."""
        return len(self.words) + 1

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    @classmethod
    def build(cls, texts: Iterable[str], min_count: int = 1, unknown: bool = True) -> 'Vocabulary':
        """Words of texts, the most frequent first, those of equal count in alphabetical order.

        Args:
            texts (Iterable[str]): Such as the captions of the training set.
            min_count (int): Rarer words are left out.
            unknown (bool): Put ``'<unk>'`` first. Without it every text to be encoded has to be made
                of these words.
        """
        counts = Counter(word for text in texts for word in tokenize(text))
        kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        words = [word for _, word in kept if word != UNKNOWN]
        return cls([UNKNOWN, *words] if unknown else words)

    @classmethod
    def load(cls, path: str) -> 'Vocabulary':
        """Read a JSON list of words.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a list of distinct words.
        """
        if not osp.isfile(path):
            raise FileNotFoundError(
                f'vocabulary {path} does not exist; make it with tools/misc/build_reir_text.py '
                f'CONFIG {osp.dirname(path) or "."} --vectors VECTORS --categories PROPOSALS'
            )
        with open(path, encoding='utf-8') as f:
            try:
                words = json.load(f)
            except ValueError as e:  # of JSON, or of UTF-8
                raise ValueError(f'vocabulary {path} is not JSON ({e}); make it again') from e
        if not isinstance(words, list) or not all(isinstance(w, str) and w for w in words):
            raise ValueError(
                f'vocabulary {path} is not a JSON list of words; its first word has the id 1'
            )
        return cls(words, path)

    def dumps(self) -> str:
        """The JSON list that :meth:`load` reads, one word per line."""
        return json.dumps(self.words, ensure_ascii=False, indent=0) + '\n'

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text.

        Raises:
            ValueError: If a word has no id and the vocabulary has no ``'<unk>'``.
        """
        ids = [self._ids.get(word, self.unknown_id) for word in tokenize(text)]
        if None in ids:
            word = tokenize(text)[ids.index(None)]
            raise ValueError(
                f'{self.source} has neither {word!r} (in {text!r}) nor {UNKNOWN!r}; build it with '
                f'{UNKNOWN!r}, or from all splits (--scope all)'
            )
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Words of ids; ends before the first 0."""
        words = []
        for i in ids:
            if i == 0:
                break
            words.append(self.words[i - 1])
        return words


def count_ids(vocabulary: int | str) -> int:
    """Number of ids, 0 included: as given, or that of a vocabulary file."""
    return len(Vocabulary.load(vocabulary)) if isinstance(vocabulary, str) else vocabulary
