"""What the inferencers of pictures and of videos share."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from torch import nn

from .checkpoint import check_checkpoint_path, load_weights


def build_model(cfg: Config, weights: str | None) -> nn.Module:
    """Build the model and load ``weights``, without fetching any pretrained parts."""
    if weights is not None:
        check_checkpoint_path(str(weights))
    model = MODELS.build(cfg.model)
    if weights is None:
        MMLogger.get_current_instance().warning(
            'no checkpoint given: the boxes come from random weights'
        )
    else:
        load_weights(model, str(weights))
    return model


def find_pipeline(dataset: ConfigDict) -> list[dict]:
    """Steps of a data set's pipeline."""
    while not dataset.get('pipeline'):
        wrapped = dataset.get('datasets') or [dataset.get('dataset')]
        if wrapped[0] is None:
            raise ValueError(
                'the config has no test_dataloader.dataset.pipeline to prepare pictures'
            )
        dataset = wrapped[0]
    return dataset.pipeline


def pair_texts(count: int, texts: str | Sequence, noun: str = 'image') -> list[list[str]]:
    """The K queries of each image by the rules in :meth:`GroundingInferencer.__call__`."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    if any(not isinstance(text, str) for text in texts):
        paired = [[text] if isinstance(text, str) else list(text) for text in texts]
    elif count == 1:
        paired = [texts]
    else:
        paired = [[text] for text in texts] * (count if len(texts) == 1 else 1)
    if len(paired) != count:
        raise ValueError(
            f'{count} {noun}s but {len(paired)} texts or lists of texts; give one text '
            f'for all {noun}s, one text per {noun}, or one list of texts per {noun}'
        )
    for i, queries in enumerate(paired):
        if not queries:
            raise ValueError(f'{noun} {i} has no text; give at least one query')
        for query in queries:
            if not isinstance(query, str) or not query.strip():
                raise ValueError(
                    f'text {query!r} of {noun} {i} is empty or not a string; describe what to find'
                )
    return paired


def answer_name(source: str, texts: Sequence[str]) -> str:
    """Name for a file about an image or video, which other texts or sources do not have."""
    words = re.sub(r'\W+', '-', texts[0]).strip('-')[:40]
    digest = hashlib.sha1('\n'.join([source, *texts]).encode()).hexdigest()[:8]
    return f'{Path(source).stem}_{words}_{digest}'
