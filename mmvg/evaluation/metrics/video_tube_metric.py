import json
import os
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor

from .tube_overlap import PROTOCOLS, TrueTube, true_tube

DUMP_FORMAT = 'mmvg-tube-ratings-1'
_COPIED = ('dataset_name', 'video_id', 'queries', 'query_ids', 'query_types')
_ROWS = dict(segment='whole segment, true boxes', oracle_tube='best candidate tube, true span')
_FIGURES = ('tiou', 'viou', 'siou')


@METRICS.register_module()
class VideoTubeMetric(BaseMetric):
    """Overlap in time and space of one tube per sentence (spec 2.5).

    A tube is a span of frames and the boxes in it. Reported, in percent, per type of sentence
    (declarative and interrogative sentences are never pooled):

    - ``m_tIoU``: mean IoU of the spans;
    - ``m_vIoU``: mean of the sum of box IoUs over the frames of both spans, by the number of frames
      of either;
    - ``vIoU@R``: share of sentences with vIoU > R;
    - ``m_sIoU``: mean box IoU over the frames of the true span, whatever span was predicted.

    What they must be compared with stands beside them:

    - ``segment/...``: the whole input segment with the true boxes, which needs no model. An
      ``m_tIoU`` below it means that the spans hurt;
    - ``own_tube_segment/m_vIoU``: the answer's boxes over the whole segment;
    - ``oracle_tube/...``: the best of the sample's ``candidate_tubes`` (C x L x 4, L the length of
      the segment) in the true span, where samples have them: no choice among them can do better.
      With the true span, vIoU is sIoU.

    True frames without a box count, with IoU 0; one warning tells. With several data sets, every
    figure is reported per data set under its ``name``. Each item of the data set gives one entry, so
    figures are exact for any number of processes.

    ==================== ====================================== ================================
    protocol             frames                                 differences
    ==================== ====================================== ================================
    ``native``           all, spans half-open
    ``tubedetr``         boxes on the sampled frames only       HC-STVG: truth one frame late
    ``stcat``            all                                    VidSTG: events that reach the end
                                                                of the segment, HC-STVG: all
                                                                events lose their last frame;
                                                                missing tubes leave the mean
    ``hcstvg_official``  all                                    missing tubes score 0
    ==================== ====================================== ================================

    Args:
        protocol (str): Whose rules. A missing tube, ``None`` in the list of a sample, is an error
            in the first two.
        dataset (str): ``'vidstg'`` or ``'hcstvg'``: where a protocol treats the two differently.
        answers (dict[str, str], optional): Further lists of tubes to rate, as prefix and name in
            the sample: ``dict(q='q_tubes')`` reports ``q/declarative/m_vIoU`` and so on.
            ``pred_tubes`` has no prefix.
        iou_thrs (Sequence[float]): Thresholds R.
        out_file (str, optional): Write what was found for every sentence there as JSON.
        collect_device, prefix: See ``BaseMetric``.
    """

    default_prefix = ''  # names of data sets are the prefixes

    def __init__(
        self,
        protocol: str = 'native',
        dataset: str = 'vidstg',
        answers: dict[str, str] | None = None,
        iou_thrs: Sequence[float] = (0.3, 0.5),
        out_file: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if protocol not in PROTOCOLS:
            raise ValueError(f'protocol must be one of {PROTOCOLS}, got {protocol!r}')
        if dataset not in ('vidstg', 'hcstvg'):
            raise ValueError(f"dataset must be 'vidstg' or 'hcstvg', got {dataset!r}")
        self.protocol = protocol
        self.dataset = dataset
        self.answers = {'': 'pred_tubes', **(answers or {})}
        self.iou_thrs = tuple(iou_thrs)
        self.out_file = out_file
        self._warned = False

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Rate each sample: one JSON-serialisable entry per sample."""
        self.results.extend(self._entry(sample) for sample in data_samples)

    # --- one sample

    def _entry(self, sample: dict) -> dict:
        where = f'video {sample.get("video_id")}, segment {sample.get("segment")}'
        segment = tuple(sample['segment'])
        truths = self._truths(sample, segment, where)
        entry = {key: sample.get(key) for key in _COPIED}
        entry.update(
            segment=list(segment),
            spans=[[int(f) for f in truth.span] for truth in truths],
            whole=[_figures(t.rate(1.0 - np.isnan(t.bboxes).any(1), segment)) for t in truths],
            answers=self._rate_answers(sample, truths, segment, where),
        )
        if sample.get('candidate_tubes') is not None:
            candidates = _array(sample['candidate_tubes'])
            entry['oracle'] = [_best(truth, candidates, segment) for truth in truths]
        return entry

    def _truths(self, sample: dict, segment: tuple[int, int], where: str) -> list[TrueTube]:
        tubes, count = sample.get('tubes'), len(sample['queries'])
        if tubes is None or len(tubes) != count:
            raise ValueError(
                f'{where}: {count} sentences but {len(tubes or ())} true tubes; evaluate on a data '
                "set with test_mode=True, and let the pipeline's packing keep 'tubes'"
            )
        frame_ids = sample.get('frame_ids')
        if frame_ids is None and self.protocol == 'tubedetr':
            raise ValueError(
                f"{where}: protocol 'tubedetr' counts on the sampled frames, but the sample has no "
                "frame_ids; let the pipeline's packing keep them"
            )
        frame_ids = None if frame_ids is None else _array(frame_ids)
        if not self._warned and any(np.isnan(tube['bboxes']).any() for tube in tubes):
            self._warned = True
            MMLogger.get_current_instance().warning(
                f'{where}: some true frames have no box; in these and further ones, every '
                'prediction counts as wrong'
            )
        return [true_tube(self.protocol, self.dataset, t, segment, frame_ids) for t in tubes]

    def _rate_answers(
        self, sample: dict, truths: list[TrueTube], segment: tuple, where: str
    ) -> dict[str, list[dict | None]]:
        """By prefix; a list that stands under several names is rated once."""
        rated = {}
        for name in self.answers.values():
            tubes = id(sample.get(name))
            if tubes not in rated:
                rated[tubes] = self._rate_answer(sample, name, truths, segment, where)
        return {prefix: rated[id(sample[name])] for prefix, name in self.answers.items()}

    def _rate_answer(
        self, sample: dict, name: str, truths: list[TrueTube], segment: tuple, where: str
    ) -> list[dict | None]:
        tubes = sample.get(name)
        if tubes is None or len(tubes) != len(truths):
            raise ValueError(
                f'{where}: {len(truths)} sentences but {len(tubes or ())} tubes in {name!r}; the '
                "model must give one per sentence under this name (the metric's answers)"
            )
        return [
            self._rate_tube(*pair, segment, f'{where}, {name}[{i}]')
            for i, pair in enumerate(zip(tubes, truths, strict=True))
        ]

    def _rate_tube(
        self, tube: dict | None, truth: TrueTube, segment: tuple, where: str
    ) -> dict | None:
        if tube is None:
            return self._missing(where)
        span, bboxes = tuple(int(frame) for frame in tube['span']), _array(tube['bboxes'])
        length = segment[1] - segment[0]
        if span[0] >= span[1]:
            raise ValueError(f'{where}: span {span} is empty; spans are half-open, [begin, end)')
        if bboxes.shape != (length, 4) or not np.isfinite(bboxes).all():
            raise ValueError(
                f'{where}: boxes of shape {bboxes.shape}, {int(np.isnan(bboxes).sum())} values '
                f'missing; give a box for each of the {length} frames of the segment'
            )
        ious = truth.ious(bboxes, segment)
        return dict(
            span=list(span),
            score=float(tube.get('score', 0)),
            **_figures(truth.rate(ious, span)),
            segment_viou=float(truth.rate(ious, segment)[1]),
        )

    def _missing(self, where: str) -> dict | None:
        if self.protocol == 'hcstvg_official':
            return dict(span=None, score=0.0, tiou=0.0, viou=0.0, siou=0.0, segment_viou=0.0)
        if self.protocol == 'stcat':
            return None
        raise ValueError(
            f'{where}: there is no tube; give one for every sentence (only the protocols '
            "'hcstvg_official', which scores it 0, and 'stcat', which leaves it out, go on)"
        )

    # --- all samples

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Figures of entries of :meth:`process`."""
        if self.out_file:
            self._dump(results)
        rows = defaultdict(list)
        for entry in results:
            types = entry['query_types'] or ['untyped'] * len(entry['queries'])
            for i, kind in enumerate(types):
                rows[entry['dataset_name'] or '', kind or 'untyped'].append((entry, i))
        metrics, log = OrderedDict(), MMLogger.get_current_instance()
        for (name, kind), members in sorted(rows.items(), key=lambda item: item[0]):
            prefix = f'{name}/' if name else ''
            answers, bounds = self._figures_of(members)
            title = f'{prefix}{kind}: {len(members)} sentences, protocol {self.protocol}'
            log.info('\n' + _table(title, {**answers, **bounds}))
            for answer, figures in answers.items():
                path = prefix + (f'{answer}/' if answer else '') + kind
                metrics.update({f'{path}/{k}': v for k, v in figures.items()})
            for bound, figures in bounds.items():
                # Their spatial figure says nothing that the others do not.
                shown = {k: v for k, v in figures.items() if k != 'm_sIoU'}
                metrics.update({f'{prefix}{kind}/{bound}/{k}': v for k, v in shown.items()})
        return metrics

    def _figures_of(self, members: list[tuple[dict, int]]) -> tuple[dict, dict]:
        """Of the sentences of one data set and type: figures of each answer, and of each bound."""
        answers = {}
        for prefix, name in self.answers.items():
            rated = [e['answers'][prefix][i] for e, i in members]
            if None in rated:
                MMLogger.get_current_instance().warning(
                    f'{rated.count(None)} of {len(rated)} sentences have no tube in {name!r} and '
                    'are left out, as protocol stcat does'
                )
            rated = [r for r in rated if r is not None]
            answers[prefix] = self._means(rated)
            whole = _percent([r['segment_viou'] for r in rated])
            answers[prefix]['own_tube_segment/m_vIoU'] = whole
        bounds = dict(segment=self._means([e['whole'][i] for e, i in members]))
        if all('oracle' in e for e, _ in members):
            bounds['oracle_tube'] = self._means([e['oracle'][i] for e, i in members])
        return answers, bounds

    def _means(self, rated: list[dict]) -> dict[str, float]:
        vious = np.array([r['viou'] for r in rated])
        return {
            'm_tIoU': _percent([r['tiou'] for r in rated]),
            'm_vIoU': _percent(vious),
            **{f'vIoU@{t:g}': _percent(vious > t) for t in self.iou_thrs},
            'm_sIoU': _percent([r['siou'] for r in rated]),
        }

    def _dump(self, results: list[dict]) -> None:
        os.makedirs(os.path.dirname(self.out_file) or '.', exist_ok=True)
        meta = dict(format=DUMP_FORMAT, protocol=self.protocol, dataset=self.dataset)
        with open(self.out_file, 'w', encoding='utf-8') as f:
            json.dump(dict(meta=meta, samples=results), f, ensure_ascii=False)


def _table(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Rows of figures, in percent with one decimal as papers have them."""
    names = [n for n in next(iter(rows.values())) if '/' not in n]
    lines = [f'{title:<44}' + ''.join(f'{n:>10}' for n in names)]
    for row, figures in rows.items():
        shown = ''.join(f'{figures[n]:>10.1f}' for n in names)
        lines.append(f'  {_ROWS.get(row, row or "answer"):<42}{shown}')
    return '\n'.join(lines)


def _best(truth: TrueTube, candidates: np.ndarray, segment: tuple[int, int]) -> dict[str, float]:
    """Figures of the candidate tube that fits best in the true span; of none, zeros."""
    if not len(candidates):
        return _figures((1.0, 0.0, 0.0))
    ious = truth.ious(candidates, segment)
    return _figures(truth.rate(ious[truth.spatial(ious).argmax()], truth.span))


def _figures(rated: tuple[float, float, float]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(_FIGURES, rated, strict=True)}


def _array(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _percent(values: Sequence[float]) -> float:
    return round(100 * float(np.mean(values)), 4) if len(values) else float('nan')
