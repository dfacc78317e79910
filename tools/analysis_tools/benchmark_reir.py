"""Training steps of ReIR for benchmark.py: a batch against its images one by one, cached against live.

Everything but the shape of the data is random: ``--num-images`` pictures of ``--size``, each with 50
proposals and a caption of 3 or 4 phrases, as in Flickr30k Entities. A step is data preprocessor, forward,
backward and SGD; reading pictures or features from disk is not part of it.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from mmvg.models.detectors import ReIR
from mmvg.models.feature_source import describe_source

Setting = tuple[str, Callable[[], object]]
PROPOSALS, WORDS, CATEGORIES, VECTOR = 50, 1000, 1600, 300
_SIZES = dict(vocab_size=10000, num_relations=88, class_counts=None)  # where a config names a file
_RANKING = dict(loss_rank_coarse=None, loss_rank_fine=None)


def build_model(cfg: Config, args: argparse.Namespace, **options: object) -> ReIR:
    """The config's model with random weights and tables, in training mode."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if cfg.model.type != 'ReIR':
        raise ValueError(f'{cfg.filename} is a config of {cfg.model.type}, not of ReIR')
    torch.manual_seed(0)
    model = _without_files(cfg.model)
    words, categories = (torch.randn(n, VECTOR) for n in (WORDS, CATEGORIES))
    model.category_similarity = dict(
        type='CategorySimilarity', words=words, categories=categories, fallback=0.3
    )
    model = MODELS.build({**model, **options})
    return model.to(args.device or get_device()).train()


def _without_files(part: ConfigDict) -> ConfigDict:
    part = ConfigDict({k: v for k, v in part.items() if k not in ('init_cfg', 'table')})
    for key, value in part.items():
        if isinstance(value, dict):
            part[key] = _without_files(value)
        elif key in _SIZES and isinstance(value, str):
            part[key] = _SIZES[key]
    return part


def make_sample(model: ReIR, index: int, size: tuple[int, int]) -> dict:
    """One caption of 13 words with 3 or 4 phrases and 3 relations, on a picture of its own."""
    draw = torch.Generator().manual_seed(index)
    height, width = size
    vocab = min(model.language_model.vocab_size, model.bbox_head.decoder.classifier.out_features)
    relations = model.data_preprocessor.num_relations
    caption = torch.randint(1, vocab, (13,), generator=draw).tolist()
    spans = [(0, 2), (3, 6), (7, 8), (9, 12)][: 3 + index % 2]
    phrases = [caption[start:end] for start, end in spans]
    known = [torch.randint(WORDS, (len(p),), generator=draw).tolist() for p in phrases]
    start = torch.rand(PROPOSALS, 2, generator=draw) * 0.6
    end = start + 0.1 + 0.3 * torch.rand(PROPOSALS, 2, generator=draw)
    sample = DetDataSample(
        metainfo=dict(
            img_path=f'random {index}',
            img_shape=size,
            ori_shape=size,
            queries=[f'phrase {i}' for i in range(len(spans))],
            query_spans=spans,
            caption_ids=caption,
            phrase_ids=phrases,
            target_ids=phrases,
            word_ids=known,
            relations=[(i, i + 1, 'with', [i % relations]) for i in range(2) if relations],
        )
    )
    sample.proposals = InstanceData(
        bboxes=torch.cat([start, end], 1) * torch.tensor([width, height, width, height]),
        scores=torch.ones(PROPOSALS),
        labels=torch.randint(CATEGORIES, (PROPOSALS,), generator=draw),
    )
    picture = torch.randint(256, (3, *size), generator=draw, dtype=torch.uint8)
    return dict(inputs=picture, data_samples=sample)


@torch.no_grad()
def with_features(model: ReIR, packed: dict, visual: str = 'none') -> dict:
    """The sample as LoadRoIFeatures gives it, with random values of the right shape.

    ``visual``: what there is for refined boxes: 'none', 'maps' or 'pictures'.
    """
    sample, size = packed['data_samples'].clone(), packed['data_samples'].img_shape
    device = next(model.parameters()).device
    picture = model.data_preprocessor.stack([packed['inputs'].to(device)])
    probe = model.extract_feat(dict(images=picture[..., :64, :64]))
    rois = model.extract_rois(probe, torch.tensor([[[0.0, 0, 9, 9]]], device=device), _one(device))
    stride = model.roi_extractor.featmap_strides[0]
    shape = probe.shape[1], *(-(-side // stride) for side in size)
    proposals = sample.proposals.clone()
    proposals.features = torch.rand(PROPOSALS, rois.shape[-1])
    proposals.set_metainfo(
        dict(input_size=size, feature_file='random', feature_source=describe_source(model))
    )
    sample.proposals = proposals
    inputs = dict(none={}, maps=dict(inputs=torch.rand(shape)), pictures=packed)[visual]
    return {**inputs, 'data_samples': sample}


def _one(device: torch.device) -> Tensor:
    return torch.ones(1, 1, dtype=torch.bool, device=device)


def train_step(model: ReIR, optimizer: torch.optim.Optimizer, batches: list[list[dict]]) -> None:
    """One update from the mean loss of the batches, each of which goes through the model alone."""
    total = 0
    for batch in batches:
        data = {key: [packed[key] for packed in batch] for key in batch[0]}
        losses = model(**model.data_preprocessor(data, True), mode='loss')
        total = total + sum(losses.values()) / len(batches)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


def steps_of(model: ReIR) -> Callable[[list[list[dict]]], Callable[[], None]]:
    """Makes functions that do a training step with given batches."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return partial(partial, train_step, model, torch.optim.SGD(parameters, lr=1e-5, momentum=0.9))


def compare_batch(cfg: Config, args: argparse.Namespace, live: bool = False) -> list[Setting]:
    """Without the ranking loss, which compares images."""
    model = build_model(cfg, args, refine='never', **_RANKING)
    images = [make_sample(model, i, args.size) for i in range(args.num_images)]
    if not live:
        images = [with_features(model, image) for image in images]
    step, count = steps_of(model), len(images)
    return [
        (f'a batch of {count} images', step([images])),
        (f'{count} images one by one', step([[image] for image in images])),
    ]


def compare_cache(cfg: Config, args: argparse.Namespace, refine: str, visual: str) -> list[Setting]:
    model = build_model(cfg, args, refine=refine)
    live = [make_sample(model, i, args.size) for i in range(args.num_images)]
    step = steps_of(model)
    title = dict(
        none='cached features', maps='cached features and maps', pictures='cached features'
    )
    return [
        (title[visual], step([[with_features(model, image, visual) for image in live]])),
        ('live features', step([live])),
    ]


COMPARISONS = {
    'reir-batch': compare_batch,
    'reir-batch-live': partial(compare_batch, live=True),
    'reir-cache': partial(compare_cache, refine='never', visual='none'),
    'reir-cache-maps': partial(compare_cache, refine='always', visual='maps'),
    'reir-cache-pictures': partial(compare_cache, refine='always', visual='pictures'),
}
