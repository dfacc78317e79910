import json
import os
from collections import OrderedDict, defaultdict
from collections.abc import Sequence

import torch
from mmdet.registry import METRICS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor

from mmvg.structures import canvas_to_image

DUMP_FORMAT = 'mmvg-grounding-predictions-1'
_META = ('dataset_name', 'img_id', 'img_path', 'queries', 'query_ids', 'query_types')


@METRICS.register_module()
class GroundingMetric(BaseMetric):
    """Accuracy of one box per query.

    mmdet's ``RefExpMetric`` looks the truth up in a second annotation file, is wired to three data
    sets and rates ranked lists; this metric reads the samples themselves, for any data set.

    Reported, in percent, overall and per query type where the data set has types (queries without one
    are ``untyped``):

    - ``acc@T``: share of queries with IoU >= T (spec 1.8);
    - ``miou``: mean IoU;
    - ``point_it``: share of queries whose predicted box centre lies in the true box;
    - ``upper_bound@T``: share of queries with any proposal of IoU >= T, where samples carry
      proposals.

    Where a sample has ``all_bboxes`` (a list of boxes per query, px of the original image), any of
    them is a right answer: the best IoU counts, and a centre or proposal in any of them. That is
    the any-box protocol of Flickr30k Entities; the TransVG family rates against the union of boxes.

    Each data set item gives exactly one entry, so figures are exact for any number of processes.
    With several data sets in a ``ConcatDataset``, every figure is reported per data set under its
    ``name``: ``val/acc@0.5``, ``testA/acc@0.5``. A data set without a name has no prefix.

    Args:
        iou_thrs (Sequence[float]): Thresholds T.
        protocol (str): ``'image'`` compares in the original image, predictions clipped to it.
            ``'canvas'`` is the released TransVG's protocol: on the padded network input,
            predictions clipped to the canvas; it has no any-box form.
        strict (bool): An IoU of exactly T is not enough (spec reir A38).
        out_file (str, optional): Write all predictions there as JSON;
            ``tools/analysis_tools/eval_predictions.py`` rates such a file again.
        collect_device, prefix: See ``BaseMetric``.
    """

    default_prefix = ''  # names of data sets are the prefixes

    def __init__(
        self,
        iou_thrs: Sequence[float] = (0.5,),
        protocol: str = 'image',
        strict: bool = False,
        out_file: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if protocol not in ('image', 'canvas'):
            raise ValueError(f"protocol must be 'image' or 'canvas', got {protocol!r}")
        self.iou_thrs = tuple(iou_thrs)
        self.protocol = protocol
        self.strict = strict
        self.out_file = out_file

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep what rating needs of each sample: one JSON-serialisable entry per sample."""
        self.results.extend(self._entry(sample) for sample in data_samples)

    def _entry(self, sample: dict) -> dict:
        gt = sample['gt_instances']['bboxes']
        if len(gt) != len(sample['queries']):
            raise ValueError(
                f'image {sample["img_path"]}: {len(sample["queries"])} queries but {len(gt)} '
                'true boxes; the test pipeline must load annotations (LoadQueryAnnotations)'
            )
        prediction = sample['pred_instances']
        entry = {key: sample.get(key) for key in _META}
        entry.update(
            ori_shape=list(sample['ori_shape'][:2]),
            canvas_shape=list(sample['batch_input_shape']),
            bboxes=prediction['bboxes'].tolist(),
            canvas_bboxes=prediction['canvas_bboxes'].tolist(),
            scores=prediction['scores'].tolist(),
            gt_bboxes=canvas_to_image(gt, sample).tolist(),
            gt_canvas_bboxes=gt.tolist(),
        )
        if sample.get('all_bboxes') is not None:
            entry['gt_bboxes_any'] = [[list(b) for b in any_of] for any_of in sample['all_bboxes']]
            self._boxes(entry)  # raises now what would end a long evaluation
        if 'proposals' in sample:
            proposals = canvas_to_image(sample['proposals']['bboxes'], sample).cpu()
            answers, counts = self._answers(entry)
            overlaps = bbox_overlaps(answers, proposals)
            entry['proposal_ious'] = (
                best_of(overlaps.amax(1), counts).tolist() if len(proposals) else [0.0] * len(gt)
            )
        return entry

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Rate entries of :meth:`process`; also what a dumped file holds."""
        if self.out_file:
            self._dump(results)
        by_dataset = OrderedDict()
        for entry in results:
            by_dataset.setdefault(entry['dataset_name'] or '', []).append(entry)
        metrics = OrderedDict()
        for name, entries in by_dataset.items():
            prefix = f'{name}/' if name else ''
            metrics.update({prefix + k: v for k, v in self._rate(entries).items()})
        return metrics

    @staticmethod
    def _answers(entry: dict) -> tuple[Tensor, Tensor]:
        """Right boxes of an entry, A x 4 in px of the original image, and the number per query."""
        if 'gt_bboxes_any' not in entry:
            truth = _to_boxes(entry['gt_bboxes'])
            return truth, torch.ones(len(truth), dtype=torch.long)
        counts = [len(any_of) for any_of in entry['gt_bboxes_any']]
        if len(counts) != len(entry['queries']) or 0 in counts:
            raise ValueError(
                f'image {entry["img_path"]}: {len(entry["queries"])} queries, but all_bboxes has '
                f'{counts} boxes for them; give at least one box per query'
            )
        boxes = [box for any_of in entry['gt_bboxes_any'] for box in any_of]
        return _to_boxes(boxes), torch.tensor(counts, dtype=torch.long)

    def _boxes(self, entry: dict, field: str = 'bboxes') -> tuple[Tensor, Tensor, Tensor]:
        """K x 4 predicted and A x 4 right boxes of an entry in the frame of the protocol, and how
        many right ones each query has."""
        if self.protocol == 'image':
            return _to_boxes(entry[field]), *self._answers(entry)
        if 'gt_bboxes_any' in entry:
            raise ValueError(
                f'image {entry["img_path"]}: any-box truth (all_bboxes) is rated in the original '
                "image only; set protocol='image', or multi_box='union' in the dataset config"
            )
        height, width = entry['canvas_shape']
        limits = torch.tensor([width, height, width, height], dtype=torch.float32)
        predicted = _to_boxes(entry['canvas_bboxes'])
        truth = _to_boxes(entry['gt_canvas_bboxes'])
        counts = torch.ones(len(truth), dtype=torch.long)
        return torch.minimum(predicted.clamp(min=0), limits), truth, counts

    def compare(self, entries: list[dict], field: str = 'bboxes') -> tuple[Tensor, Tensor]:
        """Per query of the entries: IoU with the truth, and whether the centre lies in it (1 or 0).

        Args:
            entries (list[dict]): What :meth:`process` made, or the samples of a dump.
            field (str): Which boxes of the entries; of ``protocol='canvas'`` there is one kind only.
        """
        predicted, truth, counts = (
            torch.cat(parts)
            for parts in zip(*(self._boxes(e, field) for e in entries), strict=True)
        )
        predicted = predicted.repeat_interleave(counts, dim=0)
        ious = bbox_overlaps(predicted.double(), truth.double(), is_aligned=True, eps=1e-16)
        centres = (predicted[:, :2] + predicted[:, 2:]) / 2
        hits = ((centres >= truth[:, :2]) & (centres <= truth[:, 2:])).all(1)
        return best_of(ious, counts), best_of(hits.double(), counts)

    def _rate(self, entries: list[dict]) -> dict[str, float]:
        ious, hits = self.compare(entries)
        metrics = self._figures(ious, hits)
        metrics.update(self._bounds(entries, 'proposal_ious', 'upper_bound'))
        metrics.update(self._of_types(entries, ious, hits))
        MMLogger.get_current_instance().info(
            f'rated {len(ious)} queries of {len(entries)} samples ({self.protocol} protocol)'
        )
        return metrics

    def _of_types(self, entries: list[dict], ious: Tensor, hits: Tensor) -> dict[str, float]:
        types = [t for e in entries for t in e['query_types'] or [None] * len(e['queries'])]
        if not any(types):
            return {}
        rows = defaultdict(list)
        for row, kind in enumerate(types):
            rows[kind or 'untyped'].append(row)
        return {
            f'{kind}/{name}': value
            for kind in sorted(rows)
            for name, value in self._figures(ious[rows[kind]], hits[rows[kind]]).items()
        }

    def _figures(self, ious: Tensor, hits: Tensor) -> dict[str, float]:
        metrics = {f'acc@{t:g}': self._share(ious, t) for t in self.iou_thrs}
        metrics.update(miou=_percent(ious), point_it=_percent(hits))
        return metrics

    def _bounds(self, entries: list[dict], field: str, name: str) -> dict[str, float]:
        """Shares of queries whose IoU in ``field`` reaches T; none if a sample lacks it."""
        if not all(field in entry for entry in entries):
            return {}
        best = torch.tensor([iou for entry in entries for iou in entry[field]])
        return {f'{name}@{t:g}': self._share(best, t) for t in self.iou_thrs}

    def _share(self, ious: Tensor, threshold: float) -> float:
        return _percent(ious > threshold if self.strict else ious >= threshold)

    def _settings(self) -> dict:
        """What a dump says of how it was rated, beside what all metrics have."""
        return dict(strict=self.strict)

    def _dump(self, results: list[dict]) -> None:
        os.makedirs(os.path.dirname(self.out_file) or '.', exist_ok=True)
        meta = dict(
            format=DUMP_FORMAT,
            protocol=self.protocol,
            iou_thrs=list(self.iou_thrs),
            metric=dict(type=type(self).__name__, **self._settings()),
        )
        with open(self.out_file, 'w', encoding='utf-8') as f:
            json.dump(dict(meta=meta, samples=results), f, ensure_ascii=False)


def _to_boxes(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).view(-1, 4)


def best_of(values: Tensor, counts: Tensor) -> Tensor:
    """Largest of the ``counts[i]`` values that belong to query i; A x ... -> Q x ..."""
    return torch.segment_reduce(values, 'max', lengths=counts) if len(counts) else values


def _percent(values: Tensor) -> float:
    return round(100 * values.double().mean().item(), 4)
