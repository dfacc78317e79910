"""Vectors of single words from a text file, from the token embeddings of BERT or CLIP, or one-hot."""

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from mmvg.models.language_models import BertEncoder
from mmvg.models.teachers.clip_loading import build_clip, import_open_clip
from mmvg.text import build_tokenizer
from mmvg.text.lemmatizer import lemmatize_noun, lemmatize_verb

Vectors = dict[str, Tensor]


def load_vectors(
    source: str, words: Iterable[str], labels: Iterable[str], tokenizer: str | None = None
) -> Vectors:
    """Vectors of those words that the source knows.

    Args:
        source (str): ``'exact'``; ``'bert:NAME_OR_FOLDER'``; ``'clip:NAME:WEIGHTS'``, with
            open_clip's name of the model and of its weights, or their file; or a text file.
        words (Iterable[str]): Words to find, in lower case.
        labels (Iterable[str]): Those of them that category names consist of.
        tokenizer (str, optional): Vocabulary of the BERT, or of a CLIP that was trained with it.

    Raises:
        FileNotFoundError: If the file or the weights are not to be had.
        ValueError: If they are something else.
    """
    kind, _, name = source.partition(':')
    words = sorted(set(words))
    if source == 'exact':
        return exact(words, set(labels))
    if kind == 'bert':
        return bert(words, name, tokenizer or name)
    if kind == 'clip':
        model, _, weights = name.partition(':')
        return clip(words, model, weights, tokenizer)
    return text_file(words, Path(source))


def text_file(words: list[str], path: Path) -> Vectors:
    """Lines of a word and its numbers (GloVe, fastText .vec), maybe packed with gzip.

    The file is read line by line; only the vectors of ``words`` are kept. Of a word that occurs in
    several spellings ('Paris', 'paris'), the one in lower case counts, or the first.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; give a text file of vectors, e.g. glove.6B.300d.txt, or 'exact', "
            "'bert:FOLDER', 'clip:NAME:WEIGHTS'"
        )
    wanted, found, size = set(words), {}, 0
    opener = gzip.open if path.suffix == '.gz' else open
    with opener(path, 'rt', encoding='utf-8', errors='replace') as f:
        for number, line in enumerate(f, 1):
            if number == 1:
                fields = line.split()
                if len(fields) == 2 and all(field.isdigit() for field in fields):
                    continue  # fastText: number of words and of dimensions
            size = size or len(line.split()) - 1
            # A word may hold spaces ('. . .'), so numbers are counted from the end.
            word, *numbers = line.rstrip().rsplit(' ', size)
            if word.lower() in wanted and (word.lower() not in found or word.islower()):
                found[word.lower()] = _vector(numbers, size, f'{path}:{number}')
    return found


def _vector(numbers: list[str], size: int, where: str) -> Tensor:
    try:
        if len(numbers) != size or size < 2:
            raise ValueError(f'{len(numbers)} numbers instead of {size}')
        return torch.tensor([float(n) for n in numbers])
    except ValueError as e:
        raise ValueError(
            f'{where} is not a word and its vector ({e}); give a text file of vectors, whose lines all '
            'have a word and the same number of numbers'
        ) from None


def exact(words: list[str], labels: set[str]) -> Vectors:
    """One-hot by lemma: two words agree if they are forms of one word, and not otherwise.

    Words that are no form of a word of the categories have no vector.
    """
    lemmas = {lemma: i for i, lemma in enumerate(sorted({_lemma(w) for w in labels}))}
    identity = torch.eye(len(lemmas))
    return {w: identity[lemmas[_lemma(w)]] for w in words if _lemma(w) in lemmas}


def _lemma(word: str) -> str:
    return lemmatize_verb(word) if word.endswith('ing') else lemmatize_noun(word)


def bert(words: list[str], name: str, tokenizer: str) -> Vectors:
    """Mean of a word's rows in BERT's embedding table; words with [UNK] have none."""
    pieces = build_tokenizer(tokenizer)
    encoder = BertEncoder(pretrained=name, num_layers=0)
    encoder.check_pretrained()
    encoder.init_weights()
    table = encoder.bert.embeddings.word_embeddings.weight.detach()
    return mean_rows(words, pieces.pieces, table, f'BERT {name}', pieces.unk_id)


def clip(words: list[str], name: str, weights: str, tokenizer: str | None = None) -> Vectors:
    """Mean of a word's rows in the embedding table of CLIP's text tower."""
    tower, _ = build_clip(name, weights or None, None)
    tower = getattr(tower, 'text', tower)
    if not hasattr(tower, 'token_embedding'):
        raise ValueError(
            f"the text tower of CLIP {name} is one of Hugging Face; use 'bert:' with its language model"
        )
    return mean_rows(
        words, clip_pieces(name, tokenizer), tower.token_embedding.weight.detach(), f'CLIP {name}'
    )


def clip_pieces(name: str, tokenizer: str | None) -> Callable[[str], list[int]]:
    """Text to ids without start and end."""
    if tokenizer is not None:
        return build_tokenizer(tokenizer).pieces
    own = import_open_clip().get_tokenizer(name)
    hub = getattr(own, 'tokenizer', None)
    if hub is not None:
        return lambda text: hub(text, add_special_tokens=False)['input_ids']
    return own.encode


def mean_rows(
    words: list[str],
    pieces: Callable[[str], list[int]],
    table: Tensor,
    name: str,
    unknown: int | None = None,
) -> Vectors:
    """Mean of the rows of each word's pieces, unless one is unknown."""
    found = {word: pieces(word) for word in words}
    found = {word: ids for word, ids in found.items() if ids and unknown not in ids}
    largest = max((max(ids) for ids in found.values()), default=0)
    if largest >= len(table):
        raise ValueError(
            f'{name} has {len(table)} tokens, its tokenizer more; give the right --tokenizer'
        )
    return {word: table[ids].float().mean(0) for word, ids in found.items()}
