import torch
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.structures import InstanceData
from torch import Tensor

from mmvg.structures import apply_deltas, canvas_to_image, clip_to_size

from .frozen_roi_detector import FrozenRoIDetector


@MODELS.register_module()
class ReIR(FrozenRoIDetector):
    """ReIR: finds the box of every phrase of a caption, and learns it from captions alone.

    `Relation-aware Instance Refinement for Weakly Supervised Visual Grounding
    <https://arxiv.org/abs/2103.12989>`_; spec reir 2 and 3. Proposals and their categories come with
    the sample. A phrase is matched with all of them (coarse); its best K are moved by predicted
    offsets, their features enriched along the relations of the caption, and matched again (fine).
    No loss reads an annotated box.

    A checkpoint has ``iteration``, the training steps so far, so that a resumed run goes on in the phase
    that it was in. Of a finished run it is 80,000: with it as ``load_from``, new training moves boxes
    from its first step on, before offsets have adapted to new data. For another start without, add the
    old steps to ``refine_start`` and ``reg_loss_start``, or train with ``refine='never'`` first; or
    delete ``iteration`` from the checkpoint's ``state_dict``, and it counts from 0.

    Args:
        backbone, roi_extractor, shared_head (dict): See :class:`FrozenRoIDetector`.
        language_model (dict): Such as :class:`PhraseRNN`.
        category_similarity (dict): See :class:`CategorySimilarity`.
        bbox_head (dict): :class:`CoarseToFineMatchingHead`.
        neck (dict, optional): :class:`RelationGraphNeck`; None: no relations between boxes.
        stages (int): 2, or 1: coarse matching only, without neck and losses of the fine stage.
        loss_recon_coarse, loss_recon_fine, loss_reg_coarse, loss_reg_fine, loss_relation,
            loss_rank_coarse, loss_rank_fine, loss_consistency (dict, optional): None: without this
            term. The last one is KAC Net's.
        graph_edges (str): The neck sees ``'all'`` relations (release), or the ``'listed'`` ones, which have
            a category (A29).
        relation_stages (str): Relations are classified in the ``'fine'`` stage (release) or in
            ``'both'`` (A28).
        loss_scale (float, optional): Terms are this many times their mean over images; 10, as the
            release sums over the ten images of a GPU (A21). None: sum.
        refine_start (int): Offsets are applied after this many iterations (A13). The count is part of
            the checkpoint.
        reg_loss_start (int): The regression losses count from this iteration on (A13): from the first one
            in the release, from ``refine_start`` on in the paper.
        refine (str): ``'auto'``: after ``refine_start``; ``'always'`` or ``'never'`` (A23).
        min_box_size (float): Sides of a refined box in pixels, at least (A40).

    Raises:
        ValueError: If an option has no such value, or a part is to learn from what is switched off.
    """

    LOSSES = (
        'recon_coarse',
        'recon_fine',
        'reg_coarse',
        'reg_fine',
        'relation',
        'rank_coarse',
        'rank_fine',
        'consistency',
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
        reg_loss_start: int = 0,
        refine: str = 'auto',
        min_box_size: float = 1.0,
        graph_edges: str = 'all',
        relation_stages: str = 'fine',
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
        **losses: OptConfigType,
    ) -> None:
        super().__init__(backbone, roi_extractor, shared_head, data_preprocessor, init_cfg)
        for name, value, known in (
            ('refine', refine, ('auto', 'always', 'never')),
            ('graph_edges', graph_edges, ('all', 'listed')),
            ('relation_stages', relation_stages, ('fine', 'both')),
            ('stages', stages, (1, 2)),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {known}, not {value!r}')
        unknown = set(losses) - {f'loss_{name}' for name in self.LOSSES}
        if unknown:
            raise TypeError(f'ReIR has no {sorted(unknown)}; its losses are {self.LOSSES}')
        self.language_model = MODELS.build(language_model)
        self.category_similarity = MODELS.build(category_similarity)
        self.bbox_head = MODELS.build(bbox_head)
        self.neck = MODELS.build(neck) if neck else None
        self.losses = torch.nn.ModuleDict(
            {name.removeprefix('loss_'): MODELS.build(cfg) for name, cfg in losses.items() if cfg}
        )
        self.stages = stages
        self._check_losses()
        self.loss_scale = loss_scale
        self.refine_start = refine_start
        self.reg_loss_start = reg_loss_start
        self.refine = refine
        self.min_box_size = min_box_size
        self.graph_edges = graph_edges
        self.relation_stages = ('fine',) if relation_stages == 'fine' else ('coarse', 'fine')
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        # The same: who asks for a number on a GPU waits until all work there is done.
        self._steps = 0
        self.register_load_state_dict_post_hook(_follow_iteration)

    def _check_losses(self) -> None:
        """Raise ValueError for a loss whose part of the model is switched off."""
        head, ranking = self.bbox_head, {'rank_coarse', 'rank_fine'} & set(self.losses)
        fine = sorted({'recon_fine', 'reg_fine', 'rank_fine', 'relation'} & set(self.losses))
        unused = [f'loss_{name}' for name in fine] + ['neck'] * (self.neck is not None)
        if self.stages == 1 and unused:
            raise ValueError(f'stages=1 has no use for {", ".join(unused)}; set them to None')
        offsets = sorted({'reg_coarse', 'reg_fine'} & set(self.losses))
        if offsets and head.regressor is None:
            raise ValueError(
                f"loss_{offsets[0]} has no offsets to learn with bbox_head.regressor='none'; set it to "
                'None, or choose another regressor'
            )
        if ranking and head.image_proj is None:
            raise ValueError(f'loss_{min(ranking)} needs bbox_head.ranking_dims > 0')
        if ranking and self.language_model.context == 'phrase':
            raise ValueError(
                f"loss_{min(ranking)} compares captions, which language_model.context='phrase' does not "
                "read; use 'caption', or leave the loss out"
            )
        if 'relation' in self.losses and head.relation_classifier is None:
            raise ValueError('loss_relation needs bbox_head.num_relations > 0')
        if 'consistency' in self.losses and head.place_predictor is None:
            raise ValueError('loss_consistency needs bbox_head.predict_places=True')

    @property
    def refining(self) -> bool:
        """Whether offsets move boxes by now."""
        return self.refine == 'always' or (
            self.refine == 'auto' and self._steps > self.refine_start
        )

    def set_iteration(self, steps: int) -> None:
        """Go on as after so many training steps."""
        self.iteration.fill_(steps)
        self._steps = steps

    @property
    def looks(self) -> bool:
        """Whether anything reads features of boxes; else their categories alone decide."""
        readers = self.bbox_head.scorer, self.bbox_head.regressor, self.neck
        return any(part is not None for part in readers) or len(self.losses) > 0

    # --- the two stages, in the order of the paper's section 3.2

    def match(self, inputs: dict[str, Tensor]) -> dict[str, dict]:
        """``text``, ``coarse`` and, with two stages, ``fine``: all that losses and predictions need."""
        feature_map = self.extract_feat(inputs) if self._needs_map(inputs) else None
        text = self.language_model(inputs['caption_ids'], inputs['spans'], inputs['phrase_ids'])
        text['phrases'] = self.bbox_head.phrase_norm(text['phrases'], inputs['phrase_present'])
        coarse = self.match_coarse(inputs, text, feature_map)
        if self.stages == 1:
            return dict(text=text, coarse=coarse)
        candidates = self.refine_candidates(inputs, coarse, feature_map)
        return dict(text=text, coarse=coarse, fine=self.match_fine(inputs, text, candidates))

    def _needs_map(self, inputs: dict[str, Tensor]) -> bool:
        """Whether features of boxes must be extracted; checks cached ones when they first come."""
        if not self.looks or 'rois' not in inputs:
            return self.looks
        whole = self.bbox_head.place_predictor is not None
        moves = self.stages == 2 and self.bbox_head.regressor is not None and self.refine != 'never'
        path, source = inputs['feature_source']
        if (moves or whole) and not {'feature_map', 'pictures'} & set(inputs):
            raise ValueError(
                f'{path} gives features of proposals only, but this model needs the feature map of the '
                f'picture too (refine={self.refine!r}); use LoadRoIFeatures(maps=True), or put the '
                "loading of pictures before it; or set refine='never' to leave boxes where they are"
            )
        self.check_cached(source, path)
        return whole or (moves and self.refining)

    def match_coarse(self, inputs: dict, text: dict, feature_map: Tensor) -> dict[str, Tensor]:
        """Match phrases with all proposals (section 3.2.2)."""
        boxes, present = inputs['boxes'], inputs['box_present']
        visual, picture = self._see_proposals(inputs, feature_map)
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
            picture=picture,
        )

    def _see_proposals(
        self, inputs: dict, feature_map: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`embed_proposals`, of cached or new features; zeros if nothing reads them."""
        boxes, present = inputs['boxes'], inputs['box_present']
        if not self.looks:
            return boxes.new_zeros(len(boxes), 1, boxes.shape[1], 1), None
        rois = inputs.get('rois')  # cached
        if rois is None:
            rois = self.extract_rois(feature_map, boxes, present)
        return self.embed_proposals(rois, inputs, feature_map)

    def embed_proposals(
        self, rois: Tensor, inputs: dict, feature_map: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """B x 1 x M x C of proposals, and B x C of whole pictures, one more row of theirs (KAC Net)."""
        boxes, present, sizes = (inputs[k] for k in ('boxes', 'box_present', 'image_sizes'))
        if self.bbox_head.place_predictor is None:
            return self.bbox_head.embed_visual(rois, present, boxes, sizes).unsqueeze(1), None
        corners = torch.cat([torch.zeros_like(sizes), sizes.flip(1)], 1).to(boxes)
        pictures = self.extract_pictures(feature_map, inputs)
        rows = self.bbox_head.embed_visual(
            torch.cat([rois, pictures.unsqueeze(1)], 1),
            torch.cat([present, torch.ones_like(present[:, :1])], 1),
            torch.cat([boxes, corners.unsqueeze(1)], 1),
            sizes,
        )
        return rows[:, None, :-1], rows[:, -1]

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

    def _edges(self, inputs: dict[str, Tensor]) -> Tensor:
        """Phrases that a relation connects, B x N x N bool."""
        images, phrases = inputs['phrase_present'].shape
        edges = inputs['phrase_present'].new_zeros(images, phrases, phrases)
        relations = inputs['relations']
        if self.graph_edges == 'listed':
            relations = relations[inputs['relation_targets'].any(1)]
        image, subject, target = relations.unbind(1)
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
            stages = (matched[stage]['feature'] for stage in self.relation_stages)
            terms['relation'] = sum(self._relation_loss(feature, inputs) for feature in stages)
        if self.training:
            self.iteration += 1
            self._steps += 1
        return {f'loss_{name}': self._reduce(per_image) for name, per_image in terms.items()}

    def _stage_losses(self, stage: str, found: dict, text: dict, inputs: dict) -> dict[str, Tensor]:
        present, terms = inputs['phrase_present'], {}
        if f'recon_{stage}' in self.losses:
            there = inputs['phrase_index'].unbind()
            output = self.bbox_head.reconstruct(
                found['feature'][there],
                self._embed_words(inputs),
                inputs['target_ids'][there],
                inputs['phrase_lengths'][there],
            )
            terms[f'recon_{stage}'] = self.losses[f'recon_{stage}'](
                **output, image_index=there[0], num_images=len(present)
            )
        if f'reg_{stage}' in self.losses and found['deltas'] is not None:
            confidence = found['attention']
            if stage == 'fine' and self.bbox_head.fine_conf == 'fused':
                confidence = confidence * found['weight']
            # 0 rather than left out, so that the regressor always has a gradient (DDP).
            started = float(self._steps >= self.reg_loss_start)
            terms[f'reg_{stage}'] = started * self.losses[f'reg_{stage}'](
                found['deltas'], found['boxes'], confidence, found['present']
            )
        if f'rank_{stage}' in self.losses:
            scores = self.bbox_head.rank(found['feature'], present, text['caption'])
            terms[f'rank_{stage}'] = self.losses[f'rank_{stage}'](scores, inputs.get('image_ids'))
        if stage == 'coarse' and 'consistency' in self.losses:
            head, visual = self.bbox_head, found['visual']
            places = head.predict_places(text['phrases'], visual, found['picture'])
            terms['consistency'] = self.losses['consistency'](
                places, found['boxes'], inputs['image_sizes'], found['attention']
            )
        return terms

    def _relation_loss(self, feature: Tensor, inputs: dict) -> Tensor:
        relations = inputs['relations']  # without any 0, which still is part of the graph
        return self.losses['relation'](
            self.bbox_head.classify_relations(feature, relations),
            inputs['relation_targets'],
            relations[:, 0],
            len(inputs['boxes']),
        )

    def _embed_words(self, inputs: dict) -> Tensor:
        """Q x L x C, words of all phrases as the decoder reads them."""
        there, own = inputs['phrase_index'].unbind(), self.bbox_head.decoder_embedding
        if own is not None:
            return own(inputs['target_ids'][there])
        return self.language_model.embedding(inputs['phrase_ids'][there])

    def _reduce(self, per_image: Tensor) -> Tensor:
        return per_image.sum() if self.loss_scale is None else self.loss_scale * per_image.mean()

    # --- answers

    def predict(self, inputs: dict[str, Tensor], data_samples: SampleList) -> SampleList:
        """Put ``pred_instances`` into every data sample: one box per query, in query order.

        ``bboxes`` is what the two stages agree on; ``coarse_bboxes`` and ``fine_bboxes`` are those of
        one stage. All K x 4 xyxy in pixels of the original image. ``proposal_scores`` K x M and
        ``proposal_bboxes`` K x M x 4 are what the coarse stage made of all M proposals.
        """
        found = self.choose(inputs)
        results = []
        for i, sample in enumerate(data_samples):
            count = len(sample.queries)
            fields = {k: v[i, :count] for k, v in found.items()}
            canvas = fields['bboxes']
            for name in ('proposal_bboxes', 'proposal_scores'):
                fields[name] = fields[name][:, : len(sample.proposals)]
            for name in [k for k in fields if k.endswith('bboxes')]:
                boxes = fields[name]
                moved = canvas_to_image(boxes.reshape(-1, 4), sample.metainfo)
                fields[name] = moved.view(boxes.shape)
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
        """Box and score per phrase: ``bboxes``, ``coarse_bboxes``, ``fine_bboxes`` B x N x 4, ``scores``;
        and ``proposal_bboxes`` B x N x M x 4, moved by the phrase's offsets, with their
        ``proposal_scores``, the coarse attention."""
        matched = self.match(inputs)
        coarse = matched['coarse']
        moved = self._moved(coarse, inputs)
        best = _best(moved, coarse['attention'], coarse['present'])
        found = dict(coarse_bboxes=best[0], fine_bboxes=best[0], bboxes=best[0], scores=best[1])
        found.update(proposal_bboxes=moved, proposal_scores=coarse['attention'])
        if self.stages == 2:
            fine = matched['fine']
            moved, present = self._moved(fine, inputs), fine['present']
            found['fine_bboxes'] = _best(moved, fine['attention'], present)[0]
            fused = self.bbox_head.fused(coarse, fine, fine['top'])
            found['bboxes'], found['scores'] = _best(moved, fused, present)
        return found

    def _moved(self, found: dict, inputs: dict) -> Tensor:
        """The boxes of a stage, moved by their offsets once refinement is on; B x N x P x 4."""
        boxes = found['boxes'].expand(*found['attention'].shape, 4)
        if self.refining and found['deltas'] is not None:
            boxes = apply_deltas(boxes, found['deltas'])
        return clip_to_size(boxes, inputs['image_sizes'])

    def _forward(self, inputs: dict[str, Tensor], data_samples: list = None) -> Tensor:
        """Boxes, B x N x 4; needs no data samples."""
        return self.choose(inputs)['bboxes']


def _follow_iteration(model: ReIR, incompatible_keys: object) -> None:
    """After weights were loaded."""
    model._steps = int(model.iteration)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """B x N x P x C and B x N x K -> B x N x K x C."""
    return values.gather(2, index.unsqueeze(-1).expand(*index.shape, values.shape[-1]))


def _best(boxes: Tensor, ranking: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """The highest ranked box of each phrase, B x N x 4, and how high; all 0 in an image without boxes."""
    ranking = ranking.masked_fill(~present, -torch.inf)
    index = ranking.argmax(-1, keepdim=True)
    there = present.gather(2, index)
    scores = ranking.gather(2, index).masked_fill(~there, 0)
    return (_pick(boxes, index) * there.unsqueeze(-1)).squeeze(2), scores.squeeze(2)
