import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmvg.structures.tubes import best_segment, clip_of_frame, describe_tubes, fill_frames

from ..layers import mean_field
from ..layers.mean_field import Beliefs
from ..video_data_preprocessor import collate_videos

SOURCES = ('p', 'q')
SPANS = ('likeliest', 'expected_iou')
_REGION_KEYS = ('bboxes', 'scores', 'features')


@MODELS.register_module()
class VCMA(BaseDetector):
    """VCMA: finds the tube that a sentence means in a video, and learns it from sentences alone.

    `Weakly-Supervised Spatio-Temporal Video Grounding with Variational Cross-Modal Alignment`
    (ECCV 2024), as reconstructed in spec vcma 1. A frozen detector's boxes are linked into tubes; which
    tube each entity of the sentence is, and in which clips the event goes on, are latent variables of
    a model of the sentence's relations. No loss reads a box, a span or an annotated predicate.

    Tubes come with the sample (:class:`LoadTubes`), or frames do, and ``region_extractor`` and
    ``linker`` make tubes of them.

    Args:
        language_model (dict): A :class:`TextEncoder`.
        tube_head (dict): :class:`VideoTubeHead`.
        source (str): The answer is that of ``'p'``, which knows the relations, or of ``'q'``.
        span (str): Answer with the ``'likeliest'`` run of clips (spec 1.8), or, ours, with that of the
            largest ``'expected_iou'``, which needs ``temporal='segment'``.
        region_extractor (dict, optional): :class:`RegionExtractor`, for samples with frames.
        linker (dict, optional): :class:`TubeLinker`, alike.
        num_clips (int): T, alike.
    """

    def __init__(
        self,
        language_model: ConfigType,
        tube_head: ConfigType,
        source: str = 'p',
        span: str = 'likeliest',
        region_extractor: OptConfigType = None,
        linker: OptConfigType = None,
        num_clips: int = 32,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if source not in SOURCES:
            raise ValueError(f'source must be one of {SOURCES}, not {source!r}')
        if span not in SPANS:
            raise ValueError(f'span must be one of {SPANS}, not {span!r}')
        self.source = source
        self.span = span
        self.language_model = MODELS.build(language_model).requires_grad_(False)
        self.tube_head = MODELS.build(tube_head)
        if span == 'expected_iou' and self.tube_head.temporal != 'segment':
            raise ValueError("span='expected_iou' needs a tube_head with temporal='segment'")
        self.region_extractor = MODELS.build(region_extractor) if region_extractor else None
        self.linker = TASK_UTILS.build(dict(dict(type='TubeLinker'), **(linker or {})))
        self.num_clips = num_clips

    def loss(self, inputs: dict, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of the head's current phase."""
        text, video = self.encode(inputs, data_samples)
        return self.tube_head.loss(text, video)

    def predict(self, inputs: dict, data_samples: SampleList) -> SampleList:
        """Put ``pred_tubes``, ``p_tubes`` and ``q_tubes`` into the metainfo of every data sample.

        Each is a list of one dict per sentence: ``span`` (first frame, one after the last), ``bboxes``, xyxy
        in px for every frame of the segment, ``score``, and ``tube``, its number among the
        ``candidate_tubes`` (K x frames x 4; -1 if it changes).
        """
        text, video = self.encode(inputs, data_samples)
        beliefs = self.tube_head.predict(text, video)
        found = {name: _choose(q, text['target'], self.span) for name, q in beliefs.items()}
        start = 0
        for sample in data_samples:
            rows = range(start, start + len(sample.queries))
            start = rows.stop
            candidates = fill_frames(sample.tube_bboxes, sample.frame_ids, sample.segment)
            tubes = {
                f'{name}_tubes': [_tube({k: v[r] for k, v in q.items()}, sample) for r in rows]
                for name, q in found.items()
            }
            answer = tubes[f'{self.source}_tubes']
            sample.set_metainfo(dict(tubes, pred_tubes=answer, candidate_tubes=candidates))
        return data_samples

    def _forward(self, inputs: dict, data_samples: SampleList) -> tuple[Tensor, Tensor]:
        """Probabilities of tubes Q x E x K x C and of clips Q x T."""
        found = self.tube_head.predict(*self.encode(inputs, data_samples))[self.source]
        return found.tubes, found.clips

    def extract_feat(self, inputs: dict) -> dict[str, Tensor]:
        """Tubes of videos, as :mod:`tube_networks` has them; of samples that carry them."""
        return inputs['video']

    # --- what the head is told

    def encode(self, inputs: dict, data_samples: SampleList) -> tuple[dict, dict]:
        """``text`` and ``video`` as :mod:`tube_networks` has them."""
        parsed = [sentence for sample in data_samples for sentence in sample.parsed]
        phrases = [entity for sentence in parsed for entity in sentence['entities']]
        sentences = [query for sample in data_samples for query in sample.queries]
        vectors = self.language_model(phrases + sentences)
        counts = [len(sentence['entities']) for sentence in parsed]
        entities = pad_sequence(vectors[: len(phrases)].split(counts), batch_first=True)
        text = dict(inputs['text'], entities=entities, sentence=vectors[len(phrases) :])
        video = inputs['video']
        return text, self._find_tubes(video, data_samples) if 'frames' in video else video

    @torch.no_grad()
    def _find_tubes(self, video: dict, data_samples: SampleList) -> dict[str, Tensor]:
        """Detect and link in the frames of every video, as extraction and LoadTubes do."""
        if self.region_extractor is None:
            raise ValueError(
                'the samples carry frames, but the model has no region_extractor; give it one, or put '
                'LoadTubes with a region file into the pipeline'
            )
        described = []
        for frames, sample in zip(video['frames'], data_samples):
            regions = self.region_extractor([f.permute(1, 2, 0).cpu().numpy() for f in frames])
            bboxes, scores, features = ([getattr(r, k) for r in regions] for k in _REGION_KEYS)
            size = sample.height, sample.width
            tubes = self.linker(bboxes, size, features, scores)
            whole = [r.frame_feature for r in regions]
            found = describe_tubes(tubes, features, whole, size, self.num_clips)
            sample.set_metainfo(dict(tube_bboxes=found.pop('bboxes')))
            described.append(found)
        device = next(self.tube_head.parameters()).device
        return collate_videos(
            {k: [torch.from_numpy(d[k]).to(device) for d in described] for k in described[0]}
        )


def _choose(found: Beliefs, target: Tensor, span: str) -> dict[str, np.ndarray]:
    """Beliefs on the tube of each sentence's target, Q x K x C, and on clips, Q x T; spans, Q x 2."""
    rows = torch.arange(len(target), device=target.device)
    chosen = dict(tubes=found.tubes[rows, target], clips=found.clips)
    chosen = {k: v.double().cpu().numpy() for k, v in chosen.items()}
    if found.segments is None:
        clips = chosen['clips'].clip(1e-7, 1 - 1e-7)
        spans = np.array([best_segment(odds) for odds in np.log(clips) - np.log1p(-clips)])
    else:
        spans = _span_of_segments(found, span).cpu().numpy()
    return dict(chosen, spans=spans)


def _span_of_segments(found: Beliefs, span: str) -> Tensor:
    """First and last clip, Q x 2, from a distribution over all contiguous runs of clips."""
    steps, scores = found.clips.shape[1], found.segments
    if span == 'expected_iou':
        runs = mean_field.all_segments(steps, scores.device)
        shared, lengths = runs @ runs.T, runs.sum(1)
        scores = scores @ (shared / (lengths[:, None] + lengths - shared))
    return torch.triu_indices(steps, steps, device=scores.device).T[scores.argmax(1)]


def _tube(found: dict[str, np.ndarray], sample: DetDataSample) -> dict:
    """The answer to one sentence (spec 1.8): best tube, best contiguous run of clips."""
    frame_ids, clip = sample.frame_ids, clip_of_frame(len(sample.frame_ids), len(found['clips']))
    first, last = found['spans']
    inside = frame_ids[(clip >= first) & (clip <= last)]
    tubes = found['tubes'][:, : clip[-1] + 1]  # the batch may have longer videos
    best = tubes.argmax(0)
    per_frame = np.broadcast_to(best, clip[-1] + 1)[clip] if len(best) == 1 else best[clip]
    bboxes = sample.tube_bboxes[per_frame, np.arange(len(frame_ids))]
    return dict(
        span=(int(inside[0]), int(inside[-1]) + 1),
        bboxes=fill_frames(bboxes, frame_ids, sample.segment),
        score=float(tubes.max(0).mean() * found['clips'][first : last + 1].mean()),
        tube=int(best[0]) if len(set(best)) == 1 else -1,
    )
