"""A small ReIR and samples for it, as its data preprocessor gives them."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS

DIMS, SIZE, VOCAB, CATEGORIES, RELATIONS = 16, 64, 12, 6, 5


def tables():
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(n, 4, generator=generator) for n in (VOCAB, CATEGORIES)]


def build(head=None, graph=None, text=None, similarity=None, **options):
    """All parts of the method, small; what is left out (None) of ``options`` is switched off."""
    words, categories = tables()
    regression = dict(type='SelfTaughtRegressionLoss', score_gap=0.0, iou_thr=0.4)
    config = dict(
        type='ReIR',
        backbone=dict(
            type='ResNet',
            depth=18,
            stem_channels=DIMS,
            base_channels=DIMS,
            num_stages=1,
            strides=(1,),
            dilations=(1,),
            out_indices=(0,),
        ),
        roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=3, use_torchvision=True),
            out_channels=DIMS,
            featmap_strides=[4],
        ),
        language_model=dict(type='PhraseRNN', vocab_size=VOCAB, embed_dims=DIMS, **(text or {})),
        category_similarity=dict(
            type='CategorySimilarity', words=words, categories=categories, **(similarity or {})
        ),
        bbox_head=dict(
            type='CoarseToFineMatchingHead',
            vocab_size=VOCAB,
            roi_channels=DIMS,
            embed_dims=DIMS,
            num_relations=RELATIONS,
            ranking_dims=8,
            top_k=4,
            **(head or {}),
        ),
        neck=dict(type='RelationGraphNeck', embed_dims=DIMS, gate_dims=8, **(graph or {})),
        loss_recon_coarse=dict(type='PhraseReconstructionLoss'),
        loss_recon_fine=dict(type='PhraseReconstructionLoss'),
        loss_reg_coarse=regression,
        loss_reg_fine=regression,
        loss_relation=dict(type='RelationLoss'),
        loss_rank_coarse=dict(type='CaptionRankingLoss'),
        loss_rank_fine=dict(type='CaptionRankingLoss'),
    )
    torch.manual_seed(0)
    model = MODELS.build({**config, **options})
    # Offsets and gates of some size, so that refinement and the graph show.
    for name, p in model.named_parameters():
        if 'regressor' in name or name.startswith('neck'):
            p.data.mul_(3)
    return model


def make_image(seed, phrases=3, proposals=8, relations=(), words=9):
    """One sample as ReIR takes it, without batch dimension."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    start = torch.rand(proposals, 2, generator=generator) * 20
    size = 20 + torch.rand(proposals, 2, generator=generator) * 20
    caption = draw(1, VOCAB, words)
    spans = [(int(s), int(s) + 1 + i % 3) for i, s in enumerate(draw(0, words - 2, phrases))]
    return dict(
        image=torch.rand(3, SIZE, SIZE, generator=generator),
        boxes=torch.cat([start, start + size], 1),
        labels=draw(0, CATEGORIES, proposals),
        caption=caption,
        spans=spans,
        phrases=[caption[a:b] for a, b in spans],
        known=[draw(0, VOCAB, b - a) for a, b in spans],
        relations=relations,
    )


def stack(rows, filling=0, shape=()):
    """Tensors of different shapes as one, filled up."""
    shape = [max([r.shape[d] for r in rows] + [least]) for d, least in enumerate(shape)]
    result = rows[0].new_full((len(rows), *shape), filling)
    for place, row in zip(result, rows, strict=True):
        place[tuple(slice(n) for n in row.shape)] = row
    return result


def collate(images, slots=0):
    """A batch, with ``slots`` further empty slots for phrases, words and boxes; one at least."""
    n = max(len(i['spans']) for i in images) + slots or 1
    length = max([len(p) for i in images for p in i['phrases']] + [0]) + slots or 1

    def nested(key, filling):
        rows = [
            stack([*i[key], torch.zeros(0).long()], filling, (length,))[: len(i[key])]
            for i in images
        ]
        return stack(rows, filling, (n, length))

    found = [(b, *relation) for b, i in enumerate(images) for relation in i['relations']]
    targets = torch.zeros(len(found), RELATIONS)
    for row, (*_, categories) in zip(targets, found, strict=True):
        row[list(categories)] = 1
    counts = torch.tensor([len(i['spans']) for i in images])
    proposals = torch.tensor([len(i['boxes']) for i in images])
    most = int(proposals.max()) + slots or 1
    lengths = [torch.tensor([len(p) for p in i['phrases']]).long() for i in images]
    spans = [torch.tensor(i['spans']).long().view(-1, 2) for i in images]
    return dict(
        images=torch.stack([i['image'] for i in images]),
        boxes=stack([i['boxes'] for i in images], 0, (most, 4)),
        box_present=torch.arange(most) < proposals[:, None],
        labels=stack([i['labels'] for i in images], 0, (most,)),
        image_sizes=torch.tensor([[SIZE, SIZE]] * len(images)),
        caption_ids=stack([i['caption'] for i in images], 0, (slots,)),
        spans=stack(spans, 0, (n, 2)),
        phrase_ids=nested('phrases', 0),
        target_ids=nested('phrases', 0),
        word_ids=nested('known', -1),
        phrase_lengths=stack(lengths, 0, (n,)),
        phrase_present=torch.arange(n) < counts[:, None],
        phrase_index=(torch.arange(n) < counts[:, None]).nonzero().T,
        relations=torch.tensor([f[:3] for f in found]).long().view(-1, 3),
        relation_targets=targets,
    )


def usual_images():
    return [
        make_image(0, relations=[(0, 1, (2,)), (1, 2, (0, 4))]),
        make_image(1, phrases=5, proposals=11, words=12, relations=[(4, 0, ())]),
        make_image(2, phrases=2, proposals=6, words=5),
    ]


def odd_images():
    """What may be missing or double, one thing per image; none of it may break a batch."""
    unknown = make_image(10)
    unknown['known'][1] = torch.full_like(unknown['known'][1], -1)
    same = make_image(11)
    same['boxes'][1:4] = same['boxes'][0]
    flat = make_image(12)
    flat['boxes'][2, 2:] = flat['boxes'][2, :2]
    return [
        unknown,
        same,
        flat,
        make_image(13, proposals=2),  # fewer than K
        make_image(14, proposals=1),
        make_image(15, proposals=0),
        make_image(16, phrases=1, words=3),
        make_image(17, phrases=0),
        make_image(18, relations=[(1, 1, (3,)), (0, 2, (1,)), (0, 2, (2,))]),
    ]


def losses_per_image(model, inputs):
    model._reduce = lambda per_image: per_image
    return model.loss(inputs, [])


def related_images():
    """All phrases related to all, so that some gates are open, whatever the weights."""
    pairs = [(i, j, (1,)) for i in range(4) for j in range(i)]
    return [make_image(seed, phrases=4, proposals=9, relations=pairs) for seed in range(3)]


@pytest.fixture
def reir():
    """Functions that build the model, samples (usual, odd, all phrases related), and batches."""
    return SimpleNamespace(
        build=build,
        make_image=make_image,
        usual_images=usual_images,
        odd_images=odd_images,
        related_images=related_images,
        collate=collate,
        losses_per_image=losses_per_image,
        size=SIZE,
    )
