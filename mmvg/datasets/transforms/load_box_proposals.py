import os.path as osp

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from torch import Tensor

from ...structures import image_to_canvas
from ...text.word_table import count_table_categories
from ..proposal_file import ProposalFile, Proposals


@TRANSFORMS.register_module()
class LoadBoxProposals(BaseTransform):
    """Look up a detector's boxes of the picture (ReIR, spec 1.1).

    They stay in pixels of the original picture until :class:`PackGroundingInputs` moves them by
    ``homography_matrix`` and packs them as ``data_samples.proposals`` (bboxes, scores, labels), so
    they follow every geometric transform, before or after this one, of mmvg or of mmdet. mmdet's
    ``ProposalBroadcaster`` would run random transforms a second time, on a copy of the picture.

    A picture goes by its id, its file name, or its file name without the extension. Boxes that
    reach over its border by more than a pixel are counted in ``num_clipped``, and the first one is
    logged; all are clipped, and those without area then are left out. No box at all is allowed.

    Args:
        proposal_file (str, optional): Made by ``tools/analysis_tools/extract_proposals.py``.
            Without it the record has ``proposals``: dict(bboxes M x 4, scores M, labels M).
        max_proposals (int): The best M are kept.
        min_score (float): Boxes below are left out.
        with_features (bool): Also load the features of the boxes.
        num_categories (int | str, optional): Of the model, or its word table: labels from there on are
            errors.

    Raises:
        FileNotFoundError, ValueError: If the file is absent, unfinished or damaged, has not the
            picture, or has it in another size, without labels or with labels that no category has.
    """

    def __init__(
        self,
        proposal_file: str | None = None,
        max_proposals: int = 50,
        min_score: float = 0.0,
        with_features: bool = False,
        num_categories: int | str | None = None,
    ) -> None:
        if max_proposals < 1:
            raise ValueError(f'max_proposals must be 1 or more, got {max_proposals}')
        self.file = ProposalFile(proposal_file) if proposal_file else None
        self.max_proposals = max_proposals
        self.min_score = min_score
        self.with_features = with_features
        self.num_categories = num_categories and count_table_categories(num_categories)
        self.num_clipped = 0

    def transform(self, results: dict) -> dict:
        """Set proposals, an ``InstanceData`` in px of the original picture, the best first."""
        height, width = results['ori_shape'][:2]
        found = self._find(results)
        if found.size not in (None, (height, width)):
            raise ValueError(
                f'proposal file {self.file.path}: {results.get("img_path")} was '
                f'{found.size[1]} x {found.size[0]} px when its boxes were made, now it is {width} x '
                f'{height}; use the same pictures, or make the file again'
            )
        self.check_labels(found.labels, results, self.file)
        rows = np.flatnonzero(found.scores >= self.min_score)[: self.max_proposals]
        bboxes = torch.from_numpy(found.bboxes[rows])
        self._count_outside(bboxes, width, height, results)
        fields = dict(scores=found.scores, labels=found.labels, features=found.features)
        proposals = InstanceData(
            bboxes=clip_to_window(bboxes, (0, 0, width, height)),
            **{k: torch.from_numpy(v[rows]) for k, v in fields.items() if v is not None},
        )
        results['proposals'] = with_area(proposals)
        return results

    def _find(self, results: dict) -> Proposals:
        if self.file is None:
            return _of_record(results)
        name = osp.basename(results.get('img_path') or '')
        keys = str(results.get('img_id')), name, osp.splitext(name)[0]
        return self.file.get(*filter(None, keys), with_features=self.with_features)

    def check_labels(self, labels: np.ndarray, results: dict, file: ProposalFile | None) -> None:
        """Raise ValueError for a label that is no category of the model; on the GPU it would only crash."""
        if not len(labels):
            return
        origin = f'{file.KIND} {file.path}' if file else results.get('source')
        where = f'{origin}: {results.get("img_path")}'
        if labels.min() < 0:
            raise ValueError(
                f'{where} has boxes without a label, but ReIR needs their categories; make the file from '
                'a detector, or from bottom-up files that have labels, with '
                'tools/analysis_tools/extract_proposals.py'
            )
        if self.num_categories is not None and labels.max() >= self.num_categories:
            raise ValueError(
                f'{where} has a box with label {labels.max()}, but the model has {self.num_categories} '
                'categories, counted from 0; make its word table with '
                'tools/misc/build_reir_text.py --categories and the class names of these proposals'
            )

    def _count_outside(self, bboxes: Tensor, width: int, height: int, results: dict) -> None:
        limit = bboxes.new_tensor([width, height, width, height]) + 1
        outside = ((bboxes < -1) | (bboxes > limit)).any(1)
        if self.num_clipped == 0 and outside.any():
            MMLogger.get_current_instance().warning(
                f'{self.file.path if self.file else results.get("source")}: box '
                f'{bboxes[outside][0].tolist()} reaches out of {results.get("img_path")}, {width} x '
                f'{height} px; such boxes are clipped, and this is said of the first one only'
            )
        self.num_clipped += int(outside.sum())

    def __repr__(self) -> str:
        path = self.file.path if self.file else None
        return (
            f'{type(self).__name__}(proposal_file={path!r}, max_proposals={self.max_proposals}, '
            f'min_score={self.min_score}, with_features={self.with_features})'
        )


def _of_record(results: dict) -> Proposals:
    given = results.get('proposals')
    if given is None:
        raise ValueError(
            f'{results.get("source")}: the record has no proposals; give LoadBoxProposals a '
            'proposal_file, made by tools/analysis_tools/extract_proposals.py'
        )
    scores = np.asarray(given['scores'], dtype=np.float32)
    order = np.argsort(-scores, kind='stable')
    bboxes = np.asarray(given['bboxes'], dtype=np.float32).reshape(-1, 4)
    return Proposals(bboxes[order], scores[order], np.asarray(given['labels'], np.int64)[order])


def clip_to_window(bboxes: Tensor, window: tuple[float, float, float, float]) -> Tensor:
    """M x 4 boxes cut to the window x1, y1, x2, y2."""
    low, high = (bboxes.new_tensor(side).repeat(2) for side in (window[:2], window[2:]))
    return torch.minimum(torch.maximum(bboxes, low), high)


def with_area(proposals: InstanceData) -> InstanceData:
    """Those whose box is wider and higher than 0."""
    bboxes = proposals.bboxes
    return proposals[(bboxes[:, 2:] > bboxes[:, :2]).all(1)]


def proposals_on_canvas(proposals: InstanceData, results: dict) -> InstanceData:
    """Proposals of the original picture in px of the network input, cut to what it shows of it."""
    height, width = results['img_shape'][:2]
    window = results.get('content_box', (0, 0, width, height))
    moved = proposals.clone()
    moved.bboxes = clip_to_window(image_to_canvas(proposals.bboxes, results), window)
    return with_area(moved)
