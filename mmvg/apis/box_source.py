"""Where a model that chooses among given boxes has them from when users ask it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import TRANSFORMS
from mmengine.structures import InstanceData
from torch import nn

from .box_detector import BoxDetector, check_classes, match_categories

_HINT = 'let a detector find boxes: --detector CONFIG CHECKPOINT, in Python detector=(config, checkpoint)'


def build_box_source(
    steps: Sequence[dict], model: nn.Module, detector: Sequence[str] | None, device: str
) -> '_BoxSource | None':
    """What looks the boxes of a picture up, or detects them; None for models that need none.

    Args:
        steps (Sequence[dict]): The test pipeline; ``LoadBoxProposals`` says that boxes are needed, how
            many, and from which file.
        model (Module): Has ``category_similarity`` if labels of boxes matter.
        detector (Sequence[str], optional): Config and checkpoint of mmdet.
        device (str): Of the detector.

    Raises:
        ValueError: If boxes are needed and there are none, or the other way round.
    """
    if any(step['type'] == 'LoadRoIFeatures' for step in steps):
        raise ValueError(
            'the test pipeline takes stored features (LoadRoIFeatures), which new pictures do not '
            'have; give the config whose pipeline has LoadBoxProposals in its place'
        )
    step = next((step for step in steps if step['type'] == 'LoadBoxProposals'), None)
    if step is None:
        if detector is not None:
            raise ValueError(
                'this model finds boxes itself: leave the detector out, or give the config of a model '
                'that chooses among the boxes of a detector, such as reir_shapes'
            )
        return None
    if detector is not None:
        return _DetectedBoxes(step, model, *detector, device)
    if not step.get('proposal_file'):
        raise ValueError(f'this model chooses among the boxes of a detector, and has none; {_HINT}')
    source = _BoxSource(step)
    known = getattr(model, 'category_similarity', None)
    if known is not None:
        check_classes(source.load.file, known.names, known.cosines.shape[1], 'the model')
    return source


class _BoxSource:
    """Boxes of the proposal file that the config names."""

    def __init__(self, step: dict) -> None:
        try:
            self.load = TRANSFORMS.build(step)
        except FileNotFoundError as e:
            raise FileNotFoundError(f'{e}; or {_HINT}') from e

    def __call__(self, record: dict) -> InstanceData:
        """Boxes of a record with a loaded picture, in px of the original."""
        try:
            # The id counts the user's pictures and is none of the file's.
            name = Path(record['img_path']).stem
            return self.load(dict(record, img_id=name))['proposals']
        except ValueError as e:
            raise ValueError(f'{e}; or {_HINT}') from e


class _DetectedBoxes(_BoxSource):
    """Boxes of a detector, with the categories that the model knows."""

    def __init__(
        self, step: dict, model: nn.Module, config: str, checkpoint: str, device: str
    ) -> None:
        super().__init__({k: v for k, v in step.items() if k != 'proposal_file'})
        self.detector = BoxDetector(config, checkpoint, device, self.load.max_proposals)
        known = getattr(model, 'category_similarity', None)
        self.categories = None
        if known is not None:
            count = known.cosines.shape[1]
            categories = match_categories(self.detector.classes, known.names, count)
            self.categories = np.array(categories)

    def __call__(self, record: dict) -> InstanceData:
        keys = ('img', 'img_path', 'img_id')
        prepared = self.detector.pipeline({k: record[k] for k in keys if k in record})
        found = self.detector.predict([prepared])[0].pred_instances.numpy()
        boxes = dict(bboxes=found.bboxes, scores=found.scores, labels=found.labels)
        if self.categories is not None:
            boxes['labels'] = self.categories[found.labels]
            boxes = {k: v[boxes['labels'] >= 0] for k, v in boxes.items()}
        return super().__call__(dict(record, proposals=boxes))
