"""A detector of mmdet as the source of regions of videos (VCMA), as its config and a user give it."""

from pathlib import Path

import torch
from mmdet.registry import MODELS

from mmvg.models.region_extractor import RegionExtractor

from .box_detector import class_names, find_detector_config, prediction_steps
from .start_up import load_config

# What of a RegionExtractor decides which boxes and features it gives, and can be chosen.
REGION_SETTINGS = dict(
    score_thr=0.05, nms_iou=0.5, max_boxes=20, layer='neck', use_shared_fcs=True, roi_size=7
)


def build_region_extractor(
    config: str, checkpoint: str, device: str = 'cpu', batch_size: int = 8, **settings
) -> tuple[RegionExtractor, dict]:
    """A frozen detector that finds regions, and the description of what it makes.

    Args:
        config (str): A config file, or the name of one of mmdet's or mmvg's configs. Its
            ``roi_extractor``, if it has one, is used.
        checkpoint (str): Its weights; ``'none'`` for random ones, to try things out.
        device (str): E.g. ``'cuda:0'``.
        batch_size (int): Frames that it sees at once.
        settings: See ``REGION_SETTINGS`` for their defaults, :class:`RegionExtractor` for what they
            mean. A model needs those that it was trained with, which its config has as
            ``region_extractor``.

    Raises:
        FileNotFoundError, ValueError: If the config, the checkpoint or the settings are of no use.
    """
    if unknown := set(settings) - set(REGION_SETTINGS):
        raise ValueError(
            f'region_extractor has no setting {", ".join(sorted(unknown))}; there are '
            f'{", ".join(REGION_SETTINGS)}'
        )
    settings = {**REGION_SETTINGS, **settings}
    cfg = load_config(find_detector_config(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same when a stopped run goes on
        extractor = MODELS.build(
            dict(
                type='RegionExtractor',
                detector=cfg.model,
                checkpoint=None if checkpoint == 'none' else checkpoint,
                pipeline=prediction_steps(cfg),
                roi_extractor=cfg.get('roi_extractor'),
                batch_size=batch_size,
                **settings,
            )
        )
    return extractor.to(device), dict(
        detector=Path(config).stem,
        checkpoint='random weights' if checkpoint == 'none' else Path(checkpoint).name,
        score_thr=settings['score_thr'],
        nms=settings['nms_iou'],
        max_boxes=settings['max_boxes'],
        layer=settings['layer'],
        average=not settings['use_shared_fcs'],
        roi_size=settings['roi_size'],
        classes=class_names(cfg, checkpoint),
    )
