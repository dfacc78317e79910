import math

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmvg.structures import describe_places
from mmvg.text.relation_categories import count_categories
from mmvg.text.vocabulary import count_ids

from ..layers.masked_softmax import masked_softmax
from ..layers.pair_scorer import REGRESSORS, SCORERS, PairScorer, build_regressor, build_scorer
from ..layers.phrase_decoder import RNNS, PhraseDecoder, reconstruction_targets
from ..layers.row_norm import RowNorm

SPATIAL = dict(none=0, box5=5, grid98=98)  # width of what is told of the place of a box
FUSIONS = ('attention_product', 'score_product', 'fine', 'coarse')


@MODELS.register_module()
class CoarseToFineMatchingHead(BaseModule):
    """Matches phrases with boxes twice: with all proposals, then with the best few (ReIR; spec 2).

    Both stages share the scorer and the box regressor. All is done for a batch of images at once:
    B images with up to N phrases, M proposals, and K candidates per phrase, with masks (here True =
    present) for what is padded.

    Args:
        vocab_size (int | str): Classes of the phrase decoder, the end (0) included, or the file of the
            phrase vocabulary.
        roi_channels (int): Width of RoI features.
        embed_dims (int): C, in which phrases and boxes are matched.
        top_k (int): K, candidates per phrase in the second stage.
        spatial (str): What boxes tell of their place, beside the RoI feature (A4, A39): ``'none'``, as in
            the released command; ``'box5'``: corners and area; ``'grid98'``: the places of a 7 x 7 grid.
        scorer (str): ``'linear'`` on [phrase; box], as released: then phrase-specific attention comes
            from the category similarity alone; ``'mlp'``; ``'dot'`` (A1); ``'none'``: nothing is
            learned, the category similarity decides (with ``combine='add_log'``).
        regressor (str): Offsets from ``'phrase'`` and box, from the ``'visual'`` feature only (Table 2,
            "w/o x_q"), or ``'none'``.
        combine (str): Score and category similarity are a ``'product'`` (Eq. 4), or the score is added
            to the logarithm of the similarity, ``'add_log'`` (A9); ``'none'``: no similarity.
        mask_zero (bool): Boxes of similarity 0 get no attention (A8).
        max_over (str): See :func:`masked_softmax`.
        recon_weight (str): The fine feature is weighted by ``'fused'`` attention (release) or by the
            ``'fine'`` one (paper; A10).
        fine_conf (str): The teacher of the fine regression is the box of highest ``'fine'`` attention
            (release), or of highest ``'fused'`` one (A18).
        fuse (str): How inference rates candidates: ``'attention_product'`` (release),
            ``'score_product'`` (Eq. 11), ``'fine'`` or ``'coarse'`` only (A32).
        phrase_norm, visual_norm (str): See :class:`RowNorm` (A20).
        separate_norm (bool): Refined boxes have a normalisation of their own (A20). It has no gradient
            before offsets are applied: distributed training needs ``find_unused_parameters=True``.
        num_relations (int | str): Categories of the relation classifier, or the file that lists them; 0:
            none.
        decoder_rnn (str): ``'gru'`` (release) or ``'lstm'`` (paper).
        share_embedding (bool): The decoder takes word embeddings from the language model (release),
            or has some of its own (A2).
        ranking_dims (int): Width in which images and captions are compared; 0: no ranking.
        predict_places (bool): Also tell the place of a box from phrase, box and picture, for
            :class:`VisualConsistencyLoss` (KAC Net).
    """

    def __init__(
        self,
        vocab_size: int | str,
        roi_channels: int = 2048,
        embed_dims: int = 1024,
        top_k: int = 5,
        spatial: str = 'none',
        scorer: str = 'linear',
        regressor: str = 'phrase',
        combine: str = 'product',
        mask_zero: bool = True,
        max_over: str = 'valid',
        recon_weight: str = 'fused',
        fine_conf: str = 'fine',
        fuse: str = 'attention_product',
        phrase_norm: str = 'image_bn',
        visual_norm: str = 'image_bn',
        separate_norm: bool = False,
        norm_momentum: float = 0.1,
        num_relations: int | str = 88,
        decoder_rnn: str = 'gru',
        share_embedding: bool = True,
        ranking_dims: int = 512,
        predict_places: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value, known in (
            ('spatial', spatial, SPATIAL),
            ('scorer', scorer, SCORERS),
            ('regressor', regressor, REGRESSORS),
            ('combine', combine, ('product', 'add_log', 'none')),
            ('recon_weight', recon_weight, ('fused', 'fine')),
            ('fine_conf', fine_conf, ('fine', 'fused')),
            ('fuse', fuse, FUSIONS),
            ('max_over', max_over, ('valid', 'zero_filled')),
            ('decoder_rnn', decoder_rnn, RNNS),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {tuple(known)}, not {value!r}')
        if scorer == 'none' and combine != 'add_log':
            raise ValueError(
                "scorer='none' leaves the choice to category similarity, which needs combine='add_log'; "
                f'with {combine!r} all boxes would be equal'
            )
        vocab_size, num_relations = count_ids(vocab_size), count_categories(num_relations)
        self.top_k = top_k
        self.combine = combine
        self.mask_zero = mask_zero
        self.max_over = max_over
        self.recon_weight = recon_weight
        self.fine_conf = fine_conf
        self.fuse = fuse
        self.spatial = spatial
        self.spatial_embedding = None
        if spatial != 'none':
            width = embed_dims // 4
            self.spatial_embedding = nn.Sequential(nn.Linear(SPATIAL[spatial], width), nn.ReLU())
            roi_channels += width
        self.visual_embedding = nn.Sequential(nn.Linear(roi_channels, embed_dims), nn.ReLU())
        self.visual_norm = RowNorm(embed_dims, visual_norm, norm_momentum)
        self.refined_norm = (
            RowNorm(embed_dims, visual_norm, norm_momentum) if separate_norm else None
        )
        self.phrase_norm = RowNorm(embed_dims, phrase_norm, norm_momentum)
        self.scorer = build_scorer(scorer, embed_dims)
        self.regressor = build_regressor(regressor, embed_dims)
        self.decoder = PhraseDecoder(embed_dims, vocab_size, decoder_rnn)
        self.decoder_embedding = None
        if not share_embedding:
            self.decoder_embedding = nn.Embedding(vocab_size, embed_dims, padding_idx=0)
        self.relation_classifier = None
        if num_relations:
            self.relation_classifier = nn.Sequential(
                nn.Linear(2 * embed_dims, embed_dims),
                nn.ReLU(),
                nn.Linear(embed_dims, num_relations),
            )
        self.image_proj = nn.Linear(embed_dims, ranking_dims) if ranking_dims else None
        self.caption_proj = nn.Linear(embed_dims, ranking_dims) if ranking_dims else None
        self.place_predictor = None
        if predict_places:
            self.place_predictor = PairScorer(embed_dims, embed_dims // 4, 4, 2 * embed_dims)

    def embed_visual(
        self,
        roi_feats: Tensor,
        present: Tensor,
        boxes: Tensor | None = None,
        image_sizes: Tensor | None = None,
        refined: bool = False,
    ) -> Tensor:
        """Features of boxes, B x R x C; the normalisation follows the ReLU (spec 2.2).

        Args:
            roi_feats (Tensor): B x R x D.
            present (Tensor): B x R bool.
            boxes (Tensor): B x R x 4 xyxy in pixels; not needed with ``spatial='none'``.
            image_sizes (Tensor): B x 2, height and width; alike.
            refined (bool): The boxes are those of the second stage.
        """
        if self.spatial_embedding is not None:
            places = describe_places(boxes, image_sizes, self.spatial)
            roi_feats = torch.cat([roi_feats, self.spatial_embedding(places)], -1)
        norm = self.refined_norm if refined and self.refined_norm else self.visual_norm
        return norm(self.visual_embedding(roi_feats), present)

    def match(
        self, phrases: Tensor, visual: Tensor, similarity: Tensor, present: Tensor
    ) -> dict[str, Tensor]:
        """Rate all pairs of phrase and box (Eq. 2, 4, 9, 10).

        Args:
            phrases (Tensor): B x N x C.
            visual (Tensor): B x (N or 1) x P x C.
            similarity (Tensor): B x N x P, between phrases and categories of boxes.
            present (Tensor): B x N x P bool.

        Returns:
            dict: ``scores`` and ``attention`` B x N x P, ``deltas`` B x N x P x 4 or None.
        """
        scores = similarity.new_zeros(present.shape)
        if self.scorer is not None:
            scores = self.scorer(phrases, visual).squeeze(-1).float()
        mask = present & (similarity > 0) if self.mask_zero and self.combine != 'none' else present
        if self.combine == 'product':
            scores = scores * similarity
        elif self.combine == 'add_log':
            scores = scores + similarity.clamp(min=1e-6).log()
        attention = masked_softmax(scores, mask, present, self.max_over)
        deltas = self.regressor(phrases, visual) if self.regressor is not None else None
        return dict(scores=scores, attention=attention, deltas=deltas)

    def predict_places(self, phrases: Tensor, visual: Tensor, picture: Tensor) -> Tensor:
        """Place of every box, B x N x P x 4, as :class:`VisualConsistencyLoss` wants it.

        Args:
            phrases (Tensor): B x N x C.
            visual (Tensor): B x (N or 1) x P x C.
            picture (Tensor): B x C, of the whole picture.
        """
        context = picture[:, None, None].expand_as(visual)
        return self.place_predictor(phrases, torch.cat([visual, context], -1))

    def select(self, coarse: dict[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the K most attended boxes per phrase, B x N x K, and which of them exist.

        Of equal ones (a phrase that fits no category) the first, as detectors sort by score.
        """
        ranked = coarse['attention'].detach().masked_fill(~present, -1)
        # Stable: what topk makes of ties depends on how far the batch is filled up.
        top = ranked.sort(dim=-1, descending=True, stable=True).indices[..., : self.top_k]
        return top, present.gather(2, top)

    def fused(self, coarse: dict[str, Tensor], fine: dict[str, Tensor], top: Tensor) -> Tensor:
        """What inference ranks the K candidates by, B x N x K (Eq. 11)."""
        if self.fuse == 'score_product':
            return coarse['scores'].gather(2, top) * fine['scores']
        attention = coarse['attention'].gather(2, top)
        return {'fine': fine['attention'], 'coarse': attention}.get(
            self.fuse, attention * fine['attention']
        )

    def reconstruct(
        self, feature: Tensor, words: Tensor, word_ids: Tensor, lengths: Tensor
    ) -> dict[str, Tensor]:
        """Logits, targets and counted positions of the phrase decoder.

        Args:
            feature (Tensor): Q x C, of the boxes found for a phrase.
            words (Tensor): Q x L x C, embeddings of its words.
            word_ids (Tensor): Q x L, in the vocabulary of the decoder.
            lengths (Tensor): (Q,).
        """
        targets, counts = reconstruction_targets(word_ids, lengths)
        return dict(logits=self.decoder(feature, words), targets=targets, counts=counts)

    def classify_relations(self, feature: Tensor, relations: Tensor) -> Tensor:
        """B x N x C and R x 3 (image, subject, object) -> R x categories (Eq. 16)."""
        image, subject, target = relations.unbind(1)
        pairs = torch.cat([feature[image, subject], feature[image, target]], -1)
        return self.relation_classifier(pairs)

    def rank(self, feature: Tensor, present: Tensor, caption: Tensor) -> Tensor:
        """Scores B x B of images and captions, from B x N x C and B x C (spec 2.10)."""
        weights = present.unsqueeze(-1).to(feature.dtype)
        mean = (feature * weights).sum(1) / weights.sum(1).clamp(min=1)
        images, captions = self.image_proj(mean), self.caption_proj(caption)
        return images @ captions.T / math.sqrt(images.shape[-1])
