from collections.abc import Sequence

import torch
from mmdet.registry import METRICS
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from .grounding_metric import GroundingMetric, best_of

_RECALL_IOU = 0.5
_FIELDS = dict(fused='bboxes', coarse='coarse_bboxes', fine='fine_bboxes')


@METRICS.register_module()
class PhraseGroundingMetric(GroundingMetric):
    """:class:`GroundingMetric` for ReIR, which answers in two stages from proposals (spec reir 5).

    What its parent reports is of the headline prediction, on which both stages agree. Further, in
    percent:

    - ``coarse/acc@T``, ``coarse/miou``, ``coarse/point_it`` and ``fine/...``: of one stage alone;
    - ``recall@k``: share of phrases with a box of IoU >= 0.5 among the proposals whose coarse
      attention is at least the k-th largest. Equal ones all count, as in the release: a phrase with
      attention for fewer than k proposals recalls any of them. Once refinement is on, proposals are
      moved by the offsets of the phrase;
    - ``upper_bound_refined@T``: as ``upper_bound@T``, of the moved proposals; equal to it before
      refinement.

    Two official evaluators differ: one takes the figures per type from the coarse box
    (``type_stage``; A37), the one of a baseline counts from above 0.5 (``strict``; A38).

    Args:
        iou_thrs (Sequence[float]): Thresholds T; by default those of the paper's Fig. 4.
        topk (Sequence[int]): Values of k.
        type_stage (str): Figures per type are of the ``'fused'``, ``'coarse'`` or ``'fine'`` boxes.
        Others: see :class:`GroundingMetric`; boxes are compared in the original image.
    """

    def __init__(
        self,
        iou_thrs: Sequence[float] = (0.5, 0.6, 0.7, 0.8),
        topk: Sequence[int] = (5, 10),
        type_stage: str = 'fused',
        **kwargs,
    ) -> None:
        super().__init__(iou_thrs, **kwargs)
        if self.protocol != 'image':
            raise ValueError(
                f"PhraseGroundingMetric compares in the original image, protocol='image', not "
                f'{self.protocol!r}'
            )
        if type_stage not in _FIELDS:
            raise ValueError(f'type_stage must be one of {list(_FIELDS)}, not {type_stage!r}')
        if min(topk, default=1) < 1:
            raise ValueError(f'topk must be positive numbers, not {topk}')
        self.topk = tuple(topk)
        self.type_stage = type_stage

    def _entry(self, sample: dict) -> dict:
        entry, prediction = super()._entry(sample), sample['pred_instances']
        missing = {'proposal_bboxes', 'proposal_scores', 'coarse_bboxes', 'fine_bboxes'} - set(
            prediction.keys()
        )
        if missing:
            raise ValueError(
                f'image {sample["img_path"]}: the predictions have no {", ".join(sorted(missing))}, '
                'which ReIR gives; rate other models with GroundingMetric'
            )
        for stage in ('coarse_bboxes', 'fine_bboxes'):
            entry[stage] = prediction[stage].tolist()
        boxes, attention = (prediction[f'proposal_{k}'].cpu() for k in ('bboxes', 'scores'))
        answers, counts = self._answers(entry)
        asked = boxes.float().repeat_interleave(counts, dim=0)  # A x M x 4
        ious = best_of(bbox_overlaps(asked, answers.unsqueeze(1)).squeeze(2), counts)
        entry['refined_proposal_ious'] = _largest(ious).tolist()
        ranked = attention.sort(1, descending=True).values
        for k in self.topk:
            limit = ranked[:, :k][:, -1:]  # of the last one if there are fewer than k
            entry[f'recalled_ious_{k}'] = _largest(ious * (attention >= limit)).tolist()
        return entry

    def _rate(self, entries: list[dict]) -> dict[str, float]:
        metrics = super()._rate(entries)
        for stage in ('coarse', 'fine'):
            figures = self._figures(*self.compare(entries, _FIELDS[stage]))
            metrics.update({f'{stage}/{name}': value for name, value in figures.items()})
        metrics.update(self._bounds(entries, 'refined_proposal_ious', 'upper_bound_refined'))
        for k in self.topk:
            ious = torch.tensor([iou for entry in entries for iou in entry[f'recalled_ious_{k}']])
            metrics[f'recall@{k}'] = self._share(ious, _RECALL_IOU)
        return metrics

    def _of_types(self, entries: list[dict], ious: Tensor, hits: Tensor) -> dict[str, float]:
        if self.type_stage != 'fused':
            ious, hits = self.compare(entries, _FIELDS[self.type_stage])
        return super()._of_types(entries, ious, hits)

    def _settings(self) -> dict:
        return dict(super()._settings(), topk=list(self.topk), type_stage=self.type_stage)


def _largest(ious: Tensor) -> Tensor:
    """Q x M -> Q; 0 without any proposal."""
    return ious.amax(1) if ious.shape[1] else ious.new_zeros(len(ious))
