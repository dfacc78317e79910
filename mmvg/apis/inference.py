"""What the inferencers of pictures and of videos share."""

import copy
import hashlib
import itertools
import json
import os.path as osp
import re
from collections.abc import Sequence
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import nn

from mmvg.checkpoints import check_checkpoint_path, load_weights

from .dataset_configs import split_datasets
from .start_up import load_config


def own_config(model: str | Path | Config) -> Config:
    """A config that an inferencer may change; its scope is entered."""
    cfg = copy.deepcopy(model) if isinstance(model, Config) else load_config(model)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return cfg


def is_video_model(cfg: Config) -> bool:
    """Whether a config is of a model that answers about videos."""
    return any(step['type'] == 'SampleFrames' for step in find_pipeline(cfg))


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


def find_pipeline(cfg: Config) -> list[dict]:
    """Steps of the test data set's pipeline; of those that a wrapper holds, the first one's."""
    (_, dataset), *_ = split_datasets(cfg, ['test'])
    pipeline = dataset.get('pipeline')
    if not pipeline:
        raise ValueError('the config has no test_dataloader.dataset.pipeline to prepare pictures')
    return pipeline


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


def free_path(
    out_dir: str | Path, source: str, texts: Sequence[str], suffix: str, taken: Sequence[str]
) -> str:
    """Path for the file of an answer that is none of ``taken``, those of the same call."""
    stem = osp.join(out_dir, answer_name(source, texts))
    endings = itertools.chain([''], (f'_{i}' for i in itertools.count(2)))
    return next(p for p in (f'{stem}{ending}{suffix}' for ending in endings) if p not in taken)


def write_predictions(predictions: list[dict], out_dir: str | Path) -> None:
    """Write ``predictions.json`` into a folder that exists."""
    text = json.dumps(predictions, indent=1, ensure_ascii=False)
    Path(out_dir, 'predictions.json').write_text(text, encoding='utf-8')
