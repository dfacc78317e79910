import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.structures import InstanceData
from torch import Tensor

from mmvg.structures import apply_deltas, canvas_to_image, clip_to_size

APPLY = ('auto', 'always', 'never')


@MODELS.register_module()
class ReIR(BaseDetector):
    """ReIR: finds the box of every phrase of a caption, and learns it from captions alone.

    `Relation-aware Instance Refinement for Weakly Supervised Visual Grounding
    <https://arxiv.org/abs/2103.12989>`_; spec reir 2 and 3. Proposals and their categories come with
    the sample. A phrase is matched with all of them (coarse); its best K are moved by predicted
    offsets, their features enriched along the relations of the caption, and matched again (fine).
    No loss reads an annotated box.

    Args:
        backbone (dict): Gives one feature map per image; frozen.
        roi_extractor (dict): Such as mmdet's ``SingleRoIExtractor``.
        shared_head (dict, optional): Applied to RoI features, such as mmdet's ``ResLayer`` (the last
            stage of the backbone); frozen.
        language_model (dict): Such as :class:`PhraseRNN`.
        category_similarity (dict): See :class:`CategorySimilarity`.
        bbox_head (dict): :class:`CoarseToFineMatchingHead`.
        neck (dict, optional): :class:`RelationGraphNeck`; None: no relations between boxes.
        stages (int): 1: coarse matching only.
        loss_recon_coarse, loss_recon_fine, loss_reg_coarse, loss_reg_fine, loss_relation,
            loss_rank_coarse, loss_rank_fine (dict, optional): None: without this term.
        loss_scale (float, optional): Terms are this many times their mean over images; 10, as the
            release sums over the ten images of a GPU (A21). None: sum.
        refine_start (int): Offsets are applied after this many iterations (A13). The count is part of
            the checkpoint.
        refine (str): ``'auto'``: after ``refine_start``; ``'always'`` or ``'never'`` (A23).
        min_box_size (float): Sides of a refined box in pixels, at least (A40).
    """

    LOSSES = (
        'recon_coarse',
        'recon_fine',
        'reg_coarse',
        'reg_fine',
        'relation',
        'rank_coarse',
        'rank_fine',
    )

    def __init__(
        self,
        backbone: ConfigType,
        roi_extractor: ConfigType,
        language_model: ConfigType,
        category_similarity: ConfigType,
        bbox_head: ConfigType,
        shared_head: OptConfigType = None,
        neck: OptConfigType = None,
        stages: int = 2,
        loss_scale: float | None = 10.0,
        refine_start: int = 7500,
        refine: str = 'auto',
        min_box_size: float = 1.0,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        **losses: OptConfigType,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if refine not in APPLY:
            raise ValueError(f'refine must be one of {APPLY}, not {refine!r}')
        unknown = set(losses) - {f'loss_{name}' for name in self.LOSSES}
        if unknown:
            raise TypeError(f'ReIR has no {sorted(unknown)}; its losses are {self.LOSSES}')
        self.backbone = MODELS.build(backbone)
        self.roi_extractor = MODELS.build(roi_extractor)
        self.shared_head = MODELS.build(shared_head) if shared_head else torch.nn.Identity()
        self.language_model = MODELS.build(language_model)
        self.category_similarity = MODELS.build(category_similarity)
        self.bbox_head = MODELS.build(bbox_head)
        self.neck = MODELS.build(neck) if neck else None
        self.losses = torch.nn.ModuleDict(
            {name.removeprefix('loss_'): MODELS.build(cfg) for name, cfg in losses.items() if cfg}
        )
        self._check_losses()
        self.stages = stages
        self.loss_scale = loss_scale
        self.refine_start = refine_start
        self.refine = refine
        self.min_box_size = min_box_size
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        for frozen in (self.backbone, self.shared_head):
            frozen.requires_grad_(False)

    def _check_losses(self) -> None:
        """Raise ValueError for a loss whose part of the model is switched off."""
        head, ranking = self.bbox_head, {'rank_coarse', 'rank_fine'} & set(self.losses)
        if ranking and head.image_proj is None:
            raise ValueError(f'loss_{min(ranking)} needs bbox_head.ranking_dims > 0')
        if ranking and self.language_model.context == 'phrase':
            raise ValueError(
                f"loss_{min(ranking)} compares captions, which language_model.context='phrase' does not "
                "read; use 'caption', or leave the loss out"
            )
        if 'relation' in self.losses and head.relation_classifier is None:
            raise ValueError('loss_relation needs bbox_head.num_relations > 0')

    def train(self, mode: bool = True) -> 'ReIR':
        """Set the mode; backbone and shared head stay in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        self.shared_head.eval()
        return self

    @property
    def refining(self) -> bool:
        """Whether offsets move boxes by now."""
        return self.refine == 'always' or (
            self.refine == 'auto' and int(self.iteration) > self.refine_start
        )

    # --- the two stages, in the order of the paper's section 3.2

    @torch.no_grad()
    def extract_feat(self, inputs: dict[str, Tensor]) -> Tensor:
        """Feature map of every image."""
        return self.backbone(inputs['images'])[-1]

    @torch.no_grad()
    def extract_rois(self, feature_map: Tensor, boxes: Tensor, present: Tensor) -> Tensor:
        """B x R x D vectors of B x R boxes; 0 where there is none."""
        image = present.nonzero()[:, :1].to(boxes.dtype)
        rois = torch.cat([image, boxes[present]], 1)
        feats = self.shared_head(self.roi_extractor([feature_map], rois)).mean((2, 3))
        padded = feats.new_zeros(*present.shape, feats.shape[-1])
        padded[present] = feats
        return padded

    def match(self, inputs: dict[str, Tensor]) -> dict[str, dict]:
        """``text``, ``coarse`` and, with two stages, ``fine``: all that losses and predictions need."""
        feature_map = self.extract_feat(inputs)
        text = self.language_model(inputs['caption_ids'], inputs['spans'], inputs['phrase_ids'])
        text['phrases'] = self.bbox_head.phrase_norm(text['phrases'], inputs['phrase_present'])
        coarse = self.match_coarse(inputs, text, feature_map)
        if self.stages == 1:
            return dict(text=text, coarse=coarse)
        candidates = self.refine_candidates(inputs, coarse, feature_map)
        return dict(text=text, coarse=coarse, fine=self.match_fine(inputs, text, candidates))

    def match_coarse(self, inputs: dict, text: dict, feature_map: Tensor) -> dict[str, Tensor]:
        """Match phrases with all proposals (section 3.2.2)."""
        boxes, present = inputs['boxes'], inputs['box_present']
        rois = self.extract_rois(feature_map, boxes, present)
        visual = self.bbox_head.embed_visual(rois, present, boxes, inputs['image_sizes'])
        visual = visual.unsqueeze(1)
        pairs = inputs['phrase_present'].unsqueeze(2) & present.unsqueeze(1)
        similarity = self.category_similarity(inputs['word_ids'], inputs['labels'], present)
        coarse = self.bbox_head.match(text['phrases'], visual, similarity, pairs)
        feature = coarse['attention'] @ visual.squeeze(1)
        return dict(
            **coarse,
            boxes=boxes.unsqueeze(1),
            visual=visual,
            present=pairs,
            similarity=similarity,
            feature=feature,
        )

    def refine_candidates(
        self, inputs: dict, coarse: dict[str, Tensor], feature_map: Tensor
    ) -> dict[str, Tensor]:
        """The best K proposals of each phrase, moved by their offsets, with features anew."""
        top, present = self.bbox_head.select(coarse, coarse['present'])
        shape = coarse['attention'].shape
        boxes = _pick(coarse['boxes'].expand(*shape, 4), top)
        if self.refining and coarse['deltas'] is not None:
            moved = apply_deltas(boxes, _pick(coarse['deltas'], top))
            boxes = clip_to_size(moved, inputs['image_sizes'], self.min_box_size)
            flat, there = boxes.detach().flatten(1, 2), present.flatten(1)
            rois = self.extract_rois(feature_map, flat, there)
            visual = self.bbox_head.embed_visual(
                rois, there, flat, inputs['image_sizes'], refined=True
            ).view(*top.shape, -1)
        else:
            visual = _pick(coarse['visual'].expand(*shape, -1), top)
        return dict(
            top=top,
            present=present,
            boxes=boxes,
            visual=visual,
            similarity=coarse['similarity'].gather(2, top),
            weight=coarse['attention'].gather(2, top),
        )

    def match_fine(self, inputs: dict, text: dict, candidates: dict) -> dict[str, Tensor]:
        """Context from related phrases, then match again (sections 3.2.3 and 3.2.4)."""
        visual = candidates['visual']
        if self.neck is not None:
            visual = self.neck(visual, candidates['weight'], self._edges(inputs))
        fine = self.bbox_head.match(
            text['phrases'], visual, candidates['similarity'], candidates['present']
        )
        weights = fine['attention']
        if self.bbox_head.recon_weight == 'fused':
            weights = weights * candidates['weight']
        feature = (weights.unsqueeze(-1) * visual).sum(2)
        return dict(candidates, **fine, feature=feature)

    @staticmethod
    def _edges(inputs: dict[str, Tensor]) -> Tensor:
        """Phrases that a relation connects, B x N x N bool."""
        images, phrases = inputs['phrase_present'].shape
        edges = inputs['phrase_present'].new_zeros(images, phrases, phrases)
        image, subject, target = inputs['relations'].unbind(1)
        edges[image, subject, target] = True
        edges[image, target, subject] = True
        return edges

    # --- learning

    def loss(self, inputs: dict[str, Tensor], data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of a batch (Eq. 12); the samples' annotated boxes are not read."""
        matched = self.match(inputs)
        terms = {}
        for stage in ('coarse', 'fine')[: self.stages]:
            terms.update(self._stage_losses(stage, matched[stage], matched['text'], inputs))
        if 'relation' in self.losses and self.stages == 2:
            relations = inputs['relations']  # without any 0, which still is part of the graph
            terms['relation'] = self.losses['relation'](
                self.bbox_head.classify_relations(matched['fine']['feature'], relations),
                inputs['relation_targets'],
                relations[:, 0],
                len(inputs['boxes']),
            )
        if self.training:
            self.iteration += 1
        return {f'loss_{name}': self._reduce(per_image) for name, per_image in terms.items()}

    def _stage_losses(self, stage: str, found: dict, text: dict, inputs: dict) -> dict[str, Tensor]:
        present, terms = inputs['phrase_present'], {}
        if f'recon_{stage}' in self.losses:
            output = self.bbox_head.reconstruct(
                found['feature'][present],
                self.language_model.embedding(inputs['phrase_ids'][present]),
                inputs['target_ids'][present],
                inputs['phrase_lengths'][present],
            )
            image_index = present.nonzero()[:, 0]
            terms[f'recon_{stage}'] = self.losses[f'recon_{stage}'](
                **output, image_index=image_index, num_images=len(present)
            )
        if f'reg_{stage}' in self.losses and found['deltas'] is not None:
            terms[f'reg_{stage}'] = self.losses[f'reg_{stage}'](
                found['deltas'], found['boxes'], found['attention'], found['present']
            )
        if f'rank_{stage}' in self.losses:
            scores = self.bbox_head.rank(found['feature'], present, text['caption'])
            terms[f'rank_{stage}'] = self.losses[f'rank_{stage}'](scores, inputs.get('image_ids'))
        return terms

    def _reduce(self, per_image: Tensor) -> Tensor:
        return per_image.sum() if self.loss_scale is None else self.loss_scale * per_image.mean()

    # --- answers

    def predict(self, inputs: dict[str, Tensor], data_samples: SampleList) -> SampleList:
        """Put ``pred_instances`` into every data sample: one box per query, in query order.

        ``bboxes`` is what the two stages agree on; ``coarse_bboxes`` and ``fine_bboxes`` are those of
        one stage. All K x 4 xyxy in pixels of the original image.
        """
        found = self.choose(inputs)
        results = []
        for i, sample in enumerate(data_samples):
            count = len(sample.queries)
            fields = {k: v[i, :count] for k, v in found.items()}
            canvas = fields['bboxes']
            for name in [k for k in fields if k.endswith('bboxes')]:
                fields[name] = canvas_to_image(fields[name], sample.metainfo)
            results.append(
                InstanceData(
                    **fields,
                    canvas_bboxes=canvas,
                    labels=torch.arange(count, device=canvas.device),
                    label_names=list(sample.queries),
                )
            )
        return self.add_pred_to_datasample(data_samples, results)

    def choose(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Box and score per phrase: ``bboxes``, ``coarse_bboxes``, ``fine_bboxes`` B x N x 4, ``scores``."""
        matched = self.match(inputs)
        coarse = matched['coarse']
        best = self._best(coarse, coarse['attention'], inputs)
        found = dict(coarse_bboxes=best[0], fine_bboxes=best[0], bboxes=best[0], scores=best[1])
        if self.stages == 2:
            fine = matched['fine']
            found['fine_bboxes'] = self._best(fine, fine['attention'], inputs)[0]
            fused = self.bbox_head.fused(coarse, fine, fine['top'])
            found['bboxes'], found['scores'] = self._best(fine, fused, inputs)
        return found

    def _best(self, found: dict, ranking: Tensor, inputs: dict) -> tuple[Tensor, Tensor]:
        """The highest ranked box of each phrase, moved by its offset once refinement is on."""
        ranking = ranking.masked_fill(~found['present'], -torch.inf)
        index = ranking.argmax(-1, keepdim=True)
        boxes = _pick(found['boxes'].expand(*ranking.shape, 4), index)
        if self.refining and found['deltas'] is not None:
            boxes = apply_deltas(boxes, _pick(found['deltas'], index))
        boxes = clip_to_size(boxes.squeeze(2), inputs['image_sizes'])
        scores = ranking.gather(2, index).squeeze(2)
        return boxes, scores.masked_fill(scores == -torch.inf, 0)  # of an image without proposals

    def _forward(self, inputs: dict[str, Tensor], data_samples: list = None) -> Tensor:
        """Boxes, B x N x 4; needs no data samples."""
        return self.choose(inputs)['bboxes']


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """B x N x P x C and B x N x K -> B x N x K x C."""
    return values.gather(2, index.unsqueeze(-1).expand(*index.shape, values.shape[-1]))
