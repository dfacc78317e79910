"""Detectors of mmdet as the source of the boxes among which ReIR chooses."""

import logging
from collections.abc import Sequence
from pathlib import Path

import mmdet
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm

from mmvg.checkpoints import load_weights, read_checkpoint
from mmvg.datasets.proposal_file import ProposalFile
from mmvg.models.region_extractor import let_boxes_through
from mmvg.text.chunks import head_word
from mmvg.text.word_table import category_name

from .start_up import find_config, load_config


class BoxDetector:
    """Finds the best boxes of pictures, with scores and labels.

    Args:
        config (str): A config file, or the name of one of mmdet's or mmvg's configs.
        checkpoint (str): Its weights; ``'none'`` for random ones, to try things out.
        device (str): E.g. ``'cuda:0'``.
        max_boxes (int): Per picture, at most.
        score_thr (float): Least score, in place of the detector's, which is meant for few sure boxes.
        class_agnostic (bool): Let NMS keep a box once, with its best label, as bottom-up attention does.
        classes (Sequence[str], optional): Names of the labels; by default those of the checkpoint, of
            the detector's config, or of its data set.

    Attributes:
        pipeline (Compose): Prepares a record with ``img`` or ``img_path`` for the model.
        classes (list[str] | None): See above.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If they do not fit, or the config is not of a detector that can predict.
    """

    def __init__(
        self,
        config: str,
        checkpoint: str,
        device: str = 'cpu',
        max_boxes: int = 50,
        score_thr: float = 0.01,
        class_agnostic: bool = False,
        classes: Sequence[str] | None = None,
    ) -> None:
        cfg = load_config(find_detector_config(config))
        self.name = Path(config).stem
        self.max_boxes = max_boxes
        let_boxes_through(cfg.model, max_boxes, score_thr, class_agnostic=class_agnostic)
        self.model = _build(cfg, checkpoint).to(device).eval()
        # The first one loads.
        self.pipeline = Compose([dict(type='LoadGroundingImage'), *prediction_steps(cfg)])
        self.classes = list(classes) if classes else class_names(cfg, checkpoint)

    @torch.no_grad()
    def predict(self, batch: Sequence[dict]) -> list[DetDataSample]:
        """Samples with ``pred_instances`` (boxes in px of the original) of what the pipeline gave."""
        samples = self.model.test_step(pseudo_collate(batch))
        for sample in samples:
            found = sample.pred_instances.cpu()
            best = np.argsort(-found.scores.numpy(), kind='stable')[: self.max_boxes]
            sample.pred_instances = found[torch.from_numpy(best)]
        return samples


def find_detector_config(config: str) -> str:
    """Path of a config given as a file or by the name of one that mmdet or mmvg brings."""
    if Path(config).is_file():
        return config
    folder = Path(mmdet.__file__).parent / '.mim' / 'configs'
    found = sorted(folder.rglob(f'{Path(config).name.removesuffix(".py")}.py'))
    if found:
        return str(found[0])
    try:
        return str(find_config(config))
    except FileNotFoundError as e:
        raise FileNotFoundError(
            f'detector config {config} is neither a file nor the name of a config of mmdet, such '
            'as faster-rcnn_r50_fpn_1x_coco'
        ) from e


def match_categories(
    classes: Sequence[str] | None, names: Sequence[str] | None, num_categories: int
) -> list[int]:
    """The category of a model that each class of a detector means; -1: none.

    The same name, or else the name of the head noun: 'plain red circle' is a circle.

    Args:
        classes (Sequence[str], optional): Names of the detector's classes.
        names (Sequence[str], optional): Names of the model's categories.
        num_categories (int): Their number.

    Raises:
        ValueError: If names are not known and numbers differ, or no class means a category.
    """
    if classes is None or names is None:
        if classes is None or len(classes) == num_categories:
            return list(range(num_categories))
        raise ValueError(
            f'the detector has {len(classes)} classes, the model {num_categories} categories without '
            'names; give CategorySimilarity a table with names, or names'
        )
    known = {category_name(name): i for i, name in reversed([*enumerate(names)])}
    wanted = [category_name(name) for name in classes]
    found = [known.get(w, known.get(head_word(w.split() or ['']), -1)) for w in wanted]
    lost = [name for name, category in zip(classes, found, strict=True) if category < 0]
    if len(lost) == len(classes):
        raise ValueError(
            f'no class of the detector ({", ".join(lost[:3])}, ...) is a category of the model '
            f'({", ".join(list(names)[:3])}, ...); use the detector that the model was trained with'
        )
    if lost:
        print_log(
            f'{len(lost)} of {len(classes)} classes of the detector are no category of the model; '
            f'their boxes are left out: {", ".join(lost[:10])}',
            'current',
            logging.WARNING,
        )
    return found


def check_classes(
    file: ProposalFile, names: Sequence[str] | None, num_categories: int, owner: str
) -> None:
    """Raise ValueError unless labels of a proposal file mean categories of the model.

    A file that does not name its classes passes; LoadBoxProposals compares its labels with their number.

    Args:
        file (ProposalFile): Boxes whose labels are taken as they are.
        names (Sequence[str], optional): Names of the model's categories.
        num_categories (int): Their number.
        owner (str): Where they are from, for the message.
    """
    classes = [category_name(name) for name in file.meta.get('classes') or ()]
    known = classes[:num_categories] if names is None else [category_name(n) for n in names]
    if not classes or (classes == known and len(classes) == num_categories):
        return
    problem = f'has {len(classes)} classes, but {owner} has {num_categories} categories'
    pairs = [(i, *pair) for i, pair in enumerate(zip(classes, known)) if pair[0] != pair[1]]
    if pairs:
        label, ours, theirs = pairs[0]
        problem = f'calls label {label} {ours!r}, but {owner} has {theirs!r} there'
    raise ValueError(
        f'{file.KIND} {file.path} {problem}; make the word table from the class names of this file '
        f'(tools/misc/build_reir_text.py --categories {file.path}), or the file with the detector '
        'whose categories the model has'
    )


def _build(cfg: Config, checkpoint: str) -> torch.nn.Module:
    """The detector with its weights; nothing is downloaded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same when a stopped run goes on
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
    if checkpoint != 'none':
        load_weights(model, checkpoint)
    return model


def prediction_steps(cfg: Config) -> list[dict]:
    """How a detector's config prepares a loaded picture, less the annotations."""
    if cfg.get('test_dataloader'):
        steps = get_test_pipeline_cfg(cfg)
    elif cfg.get('test_pipeline'):
        steps = cfg.test_pipeline
    else:
        raise ValueError(
            f'{cfg.filename} has no test_dataloader and no test_pipeline of a detector'
        )
    return [step for step in steps[1:] if 'Annotations' not in str(step['type'])]


def class_names(cfg: Config, checkpoint: str) -> list[str] | None:
    """Names of the labels: of the checkpoint, the detector's config or its data set."""
    meta = {} if checkpoint == 'none' else read_checkpoint(checkpoint, mmap=True)[1]
    known = {k.lower(): v for k, v in (meta.get('dataset_meta') or meta).items()}
    loader: ConfigDict = cfg.get('test_dataloader') or cfg.get('train_dataloader') or {}
    dataset = DATASETS.get(loader.dataset.type) if loader else None
    sources = (
        known,
        loader.dataset.get('metainfo') or {} if loader else {},
        getattr(dataset, 'METAINFO', {}),
    )
    names = next((source['classes'] for source in sources if source.get('classes')), None)
    return list(names) if names else None
