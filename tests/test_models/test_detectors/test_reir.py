"""ReIR against recorded outputs of the official heads (spec reir 8.4)."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

WORDS = 'a man in red shirt rides bike on the street with dog woman holding ball'.split()
CAPTION = 'a man in red shirt rides a bike on the street'.split()
SPANS = [(0, 2), (3, 5), (6, 8)]
# Our names, and the length of the official ones, which is all that the recorded weights depend on.
NAME_LENGTHS = {
    'language_model.rnn.weight_ih_l0': 34,
    'language_model.rnn.weight_hh_l0': 34,
    'language_model.rnn.bias_ih_l0': 32,
    'language_model.rnn.bias_hh_l0': 32,
    'language_model.embedding.weight': 33,
    'bbox_head.visual_embedding.0.weight': 25,
    'bbox_head.visual_embedding.0.bias': 23,
    'bbox_head.scorer.weight': 22,
    'bbox_head.scorer.bias': 20,
    'bbox_head.regressor.pairs.weight': 19,
    'bbox_head.regressor.pairs.bias': 17,
    'bbox_head.regressor.out.weight': 19,
    'bbox_head.regressor.out.bias': 17,
    'bbox_head.caption_proj.weight': 15,
    'bbox_head.caption_proj.bias': 13,
    'bbox_head.image_proj.weight': 17,
    'bbox_head.image_proj.bias': 15,
    'bbox_head.decoder.rnn.weight_ih_l0': 27,
    'bbox_head.decoder.rnn.weight_hh_l0': 27,
    'bbox_head.decoder.rnn.bias_ih_l0': 25,
    'bbox_head.decoder.rnn.bias_hh_l0': 25,
    'bbox_head.decoder.classifier.weight': 14,
    'bbox_head.decoder.classifier.bias': 12,
    'bbox_head.relation_classifier.0.weight': 23,
    'bbox_head.relation_classifier.0.bias': 21,
    'bbox_head.relation_classifier.2.weight': 14,
    'bbox_head.relation_classifier.2.bias': 12,
    'neck.gate.weight': 16,
    'neck.gate.bias': 14,
    'neck.message.weight': 18,
    'neck.message.bias': 16,
}


@torch.no_grad()
def fill(model):
    parameters = {n: p for n, p in model.named_parameters() if 'norm' not in n and p.requires_grad}
    assert set(parameters) == set(NAME_LENGTHS)
    for name, parameter in parameters.items():
        k = torch.arange(1, parameter.numel() + 1, dtype=torch.float64)
        values = 0.05 * torch.sin(0.1 * k + NAME_LENGTHS[name])
        parameter.copy_(values.view_as(parameter))


def word_vectors():
    j = torch.arange(1, 301, dtype=torch.float64)
    q = torch.arange(1, len(WORDS) + 1, dtype=torch.float64)
    return torch.cos(0.1 * q[:, None] * j)


def fake_rois(feature_map, boxes, present):
    """|sin((0.001 x1 + 0.002 y1 + 0.003 x2 + 0.004 y2) 10 j / 2048)|, j from 1 to 2048."""
    j = torch.arange(1, 2049) / 2048
    base = (boxes * torch.tensor([0.001, 0.002, 0.003, 0.004])).sum(-1, keepdim=True) * 10
    return torch.sin(base * j).abs() * present.unsqueeze(-1)


@pytest.fixture
def build(repository):
    """Function that builds the recipe's model with the released profile, by default as it was run.

    RoI features are made up, so backbone and extractor do nothing; the recorded losses are sums over
    the images (A21).
    """
    bases = repository / 'configs/_base_'

    def make(gap=None):
        cfg = Config.fromfile(bases / 'models/reir_r101.py')
        cfg.merge_from_dict(dict(model=Config.fromfile(bases / 'reir_profiles/code.py').profile))
        model = cfg.model
        model.backbone.depth = model.shared_head.depth = 18
        model.language_model.vocab_size = len(WORDS) + 3
        model.category_similarity.update(words=word_vectors(), categories=word_vectors())
        model.bbox_head.vocab_size = len(WORDS) + 1
        model.loss_scale = None
        if gap is not None:
            model.loss_reg_coarse.score_gap = model.loss_reg_fine.score_gap = gap
        model = MODELS.build(model)
        model.extract_feat = lambda inputs: None
        model.extract_rois = fake_rois
        fill(model)
        return model

    return make


def make_inputs(images=range(4)):
    ids = torch.tensor([WORDS.index(w) + 1 for w in CAPTION])
    phrases = torch.stack([ids[a:b] for a, b in SPANS])
    m, count = torch.arange(50), len(images)
    boxes, labels = [], []
    for i in images:
        x1, y1 = (7 * m % 300) + 5 * i, 11 * m % 200
        boxes.append(
            torch.stack([x1, y1, x1 + 60 + 13 * m % 100, y1 + 50 + 17 * m % 90], 1).float()
        )
        labels.append((m + i) % len(WORDS))
    relations, targets = [], []
    for row, i in enumerate(images):
        if i % 2 == 0:
            relations += [[row, 0, 1], [row, 0, 2]]
            targets += [[2], [0, 5]]
    multi_hot = torch.zeros(len(targets), 88)
    for row, categories in zip(multi_hot, targets, strict=True):
        row[categories] = 1
    every = [count, 1, 1]
    return dict(
        boxes=torch.stack(boxes),
        box_present=torch.ones(count, 50, dtype=torch.bool),
        labels=torch.stack(labels),
        image_sizes=torch.tensor([[320, 480]] * count),
        caption_ids=ids.repeat(count, 1),
        spans=torch.tensor(SPANS).repeat(every),
        phrase_ids=phrases.repeat(every),
        target_ids=phrases.repeat(every),
        word_ids=phrases.repeat(every) - 1,
        phrase_lengths=torch.full((count, 3), 2),
        phrase_present=torch.ones(count, 3, dtype=torch.bool),
        phrase_index=torch.ones(count, 3).nonzero().T,
        relations=torch.tensor(relations).view(-1, 3),
        relation_targets=multi_hot,
    )


@pytest.mark.parametrize(
    'training, iteration, gap, expected',
    [
        (True, 10, None, (11.182982, 2.221034, 2.821975, 0, 0, 1.453930)),
        (True, 10, 0.0, (11.182982, 2.221034, 2.821975, 0.035558, 0, 1.453930)),
        (True, 8000, None, (11.197803, 2.122000, 2.821975, 0, 0, 1.456342)),
        (False, 10, None, (11.156804, 1.617592, 1.660826, 0, 0, 1.452814)),
        (False, 8000, None, (11.156728, 1.616547, 1.660826, 0, 0, 1.452822)),
    ],
)
def test_losses_are_those_of_the_release(build, training, iteration, gap, expected):
    model = build(gap).train(training)
    model.set_iteration(iteration)
    losses = model.loss(make_inputs(), [])
    names = ('recon_fine', 'rank_fine', 'rank_coarse', 'reg_coarse', 'reg_fine', 'relation')
    found = [losses[f'loss_{name}'].item() for name in names]
    assert found == pytest.approx(expected, abs=2e-5)


def test_boxes_are_those_of_the_release(build):
    model = build().eval()
    model.set_iteration(10)
    inputs = make_inputs()
    matched = model.match(inputs)
    attention = matched['coarse']['attention'][0]
    assert attention.argmax(1).tolist() == [16, 49, 6]
    assert attention.amax(1).tolist() == pytest.approx([0.075716, 0.069016, 0.087595], abs=2e-6)
    fine = matched['fine']
    fused = model.bbox_head.fused(matched['coarse'], fine, fine['top'])[0, 0]
    assert fused.tolist() == pytest.approx(
        [0.015212, 0.015070, 0.015070, 0.015019, 0.015005], abs=2e-6
    )
    found = model.choose(inputs)
    for name in ('coarse_bboxes', 'fine_bboxes', 'bboxes'):
        assert found[name][0, 0].tolist() == [112, 176, 180, 228]
    model.set_iteration(8000)
    found = model.choose(inputs)
    coarse, fine = (112.488, 176.125, 178.181, 226.359), (112.976, 176.246, 176.364, 224.722)
    assert found['coarse_bboxes'][0, 0].tolist() == pytest.approx(coarse, abs=1e-3)
    assert found['fine_bboxes'][0, 0].tolist() == pytest.approx(fine, abs=1e-3)
    assert found['bboxes'][0, 0].tolist() == pytest.approx(fine, abs=1e-3)
