"""Odd samples, from the record to the answer: through transforms, data preprocessor, loss and predict."""

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.dataset import pseudo_collate

from mmvg.models.detectors import ReIR

WORDS = '<unk> a man red shirt bike on dog holds , .'.split()  # 0 is padding: 12 ids
TABLE = 'man red shirt bike dog holds w6 w7 w8 w9 w10 w11'.split()
KEYS = ('bboxes', 'coarse_bboxes', 'fine_bboxes', 'canvas_bboxes', 'scores')


def record(caption='a man on a bike holds a dog', spans=((0, 2), (3, 5), (6, 8)), **changes):
    """One as a data set gives it, of a picture of 60 x 48 px with eight proposals."""
    random = np.random.RandomState(3)
    start = random.rand(8, 2) * [24, 14]
    words = caption.split()
    return dict(
        dict(
            img=random.randint(0, 256, (48, 60, 3), dtype=np.uint8),
            img_path=f'{caption}.png',
            img_id=1,
            source='a record',
            caption=caption,
            query_spans=[tuple(span) for span in spans],
            queries=[' '.join(words[a:b]) for a, b in spans],
            relations=[(0, 1, 'on', [2]), (0, 2, 'hold', [])] if len(spans) == 3 else [],
            proposals=dict(
                bboxes=np.concatenate([start, start + 14 + random.rand(8, 2) * 18], 1),
                scores=np.linspace(0.9, 0.2, 8),
                labels=random.randint(0, 6, 8),
            ),
        ),
        **changes,
    )


def boxes(rows, labels=None):
    rows = np.array(rows, dtype=np.float32).reshape(-1, 4)
    labels = np.arange(len(rows)) % 6 if labels is None else labels
    return dict(proposals=dict(bboxes=rows, scores=np.linspace(1, 0.1, len(rows)), labels=labels))


FULL = [0, 0, 60, 48]
ODD = {
    'fewer proposals than K': boxes([[1, 2, 30, 40], [9, 9, 50, 30]]),
    'one proposal': boxes([[1, 2, 30, 40]]),
    'no proposals': boxes([]),
    'no phrases': dict(caption='a dog holds a dog', spans=()),
    'no phrases, no proposals': dict(caption='holds', spans=(), **boxes([])),
    'no relations': dict(relations=[]),
    'one phrase': dict(caption='a man', spans=((0, 2),)),
    'one phrase, related to itself': dict(
        caption='a man', spans=((0, 2),), relations=[(0, 0, 'on', [1])]
    ),
    'related to itself': dict(relations=[(1, 1, 'on', [1]), (0, 2, 'hold', [0])]),
    'related twice and both ways': dict(
        relations=[(0, 1, 'on', [1]), (0, 1, 'hold', [0, 2]), (1, 0, 'on', [1])]
    ),
    'no known word': dict(caption='the cat eats some fish', spans=((0, 2), (3, 5))),
    'some known words': dict(caption='the cat holds a dog', spans=((0, 2), (3, 5))),
    'the same phrase three times': dict(
        caption='a man , a man , a man', spans=((0, 2), (3, 5), (6, 8))
    ),
    'phrases within phrases': dict(caption='a man on a bike', spans=((0, 5), (0, 2), (3, 5))),
    'duplicate boxes': boxes([[5, 5, 30, 30]] * 5 + [[20, 10, 50, 44]]),
    'boxes at and over the border': boxes(
        [FULL, FULL, [-20, -9, 30, 20], [30, 20, 90, 99], [59, 0, 60, 48], [0, 47, 60, 48]]
    ),
    'boxes of a hair': boxes([[5, 5, 5.01, 30], [5, 5, 30, 5.01], [7, 7, 7.001, 7.001]]),
    'boxes without area or outside': boxes([[5, 5, 5, 30], [70, 5, 90, 30], [9, 9, 30, 30]]),
}


def pack(**changes):
    # Fewer boxes than given are lost with a warning once; no step is random.
    steps = [
        dict(type='LoadGroundingImage'),
        dict(type='LoadBoxProposals'),
        dict(type='EncodePhrases', caption_vocab=WORDS, phrase_vocab=WORDS, table_words=TABLE),
        dict(type='PackGroundingInputs'),
    ]
    return Compose(steps)(record(**changes))


@pytest.fixture
def build(reir):
    """A model with its data preprocessor."""

    def make(**options):
        options.setdefault('refine', 'always')
        preprocessor = dict(
            type='PhraseDataPreprocessor', num_relations=5, mean=[120.0] * 3, std=[60.0] * 3
        )
        model = reir.build(data_preprocessor=preprocessor, **options)
        assert isinstance(model.data_preprocessor, MODELS.get('PhraseDataPreprocessor'))
        return model

    return make


def losses_per_image(model, samples):
    model._reduce = lambda per_image: per_image
    data = model.data_preprocessor(pseudo_collate(samples), training=True)
    return model.loss(data['inputs'], data['data_samples'])


def predict(model, samples):
    with torch.no_grad():
        return [s.pred_instances for s in model.eval().test_step(pseudo_collate(samples))]


@pytest.mark.parametrize('refine', ['always', 'never'])
@pytest.mark.parametrize('name', ODD)
def test_losses_and_answers_are_finite_and_others_do_not_notice(build, name, refine):
    """Statistics are per image: what an image loses or answers depends on itself only."""
    usual = pack(), pack(caption='a red shirt , a dog', spans=((0, 3), (4, 6)))
    together = [usual[0], pack(**ODD[name]), usual[1]]
    model = build(refine=refine).train()
    losses = losses_per_image(model, together)
    assert losses.keys() == {f'loss_{n}' for n in ReIR.LOSSES if n in model.losses}
    assert all(value.shape == (3,) and value.isfinite().all() for k, value in losses.items())
    sum(value.sum() for value in losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    answers = predict(model, together)
    for place, sample in enumerate(together):
        alone = losses_per_image(model.train(), [sample])
        for key, value in alone.items():
            if 'rank' not in key:  # compares images
                torch.testing.assert_close(
                    value[0], losses[key][place], atol=2e-4, rtol=1e-3, msg=f'{key} {place}'
                )
        own = answers[place]
        assert len(own) == len(sample['data_samples'].queries)
        assert all(own[key].isfinite().all() for key in KEYS)
        corners = own.bboxes.view(-1, 2, 2)
        assert (corners[:, 1] >= corners[:, 0]).all() and (own.scores >= 0).all()
        assert (corners >= 0).all() and (corners <= torch.tensor([60, 48])).all()
    # Running statistics have changed with every loss above; answers are compared with fixed ones.
    answers = predict(model, together)
    for place, sample in enumerate(together):
        (alone,) = predict(model, [sample])
        for key in KEYS:
            torch.testing.assert_close(alone[key], answers[place][key], atol=1e-2, rtol=1e-3)


def test_no_proposals_means_no_answer(build):
    (found,) = predict(build(), [pack(**ODD['no proposals'])])
    assert len(found) == 3 and not found.scores.any()
    assert not found.bboxes.any()
    losses = losses_per_image(build(), [pack(**ODD['no proposals'])])
    assert losses['loss_reg_coarse'] == 0 and losses['loss_reg_fine'] == 0
    assert (
        losses['loss_recon_fine'] > 0
    )  # from nothing, of which the decoder learns how words go on


@pytest.mark.parametrize('refine', ['always', 'never'])
def test_a_phrase_of_no_known_word_takes_the_best_detection(build, refine):
    """It fits no category, so all boxes are equal and the first counts, with score 0 (A7)."""
    sample = pack(**ODD['some known words'])
    model = build(refine=refine)
    (found,) = predict(model, [sample])
    assert sample['data_samples'].word_ids == [[-1, -1], [-1, 4]]
    assert found.scores[0] == 0 and found.scores[1] > 0
    if refine == 'never':
        first = sample['data_samples'].proposals.bboxes[0]
        assert torch.equal(found.bboxes[0], first) and torch.equal(found.coarse_bboxes[0], first)
    # With the fallback it takes part like any other.
    (found,) = predict(build(refine=refine, similarity=dict(fallback=0.1)), [sample])
    assert (found.scores > 0).all()


def test_one_phrase_per_caption_is_normalised_to_the_bias(build):
    """In training with statistics per image (A20); other normalisations tell phrases apart."""
    samples = [pack(caption=f'a {word}', spans=((0, 2),)) for word in ('man', 'dog')]
    for norm, equal in (('image_bn', True), ('batch_bn', False), ('layernorm', False)):
        model = build(head=dict(phrase_norm=norm)).train()
        inputs = model.data_preprocessor(pseudo_collate(samples), training=True)['inputs']
        phrases = model.match(inputs)['text']['phrases']
        assert torch.equal(phrases[0], phrases[1]) == equal
        assert not equal or not phrases.any()  # the bias is 0 at first


def test_equal_phrases_get_equal_boxes_without_context(build):
    """A mention is a node of its own; only the words around it can tell it from others (A30)."""
    sample = pack(**ODD['the same phrase three times'])
    for context, equal in (('phrase', True), ('caption', False)):
        ranks = dict(loss_rank_coarse=None, loss_rank_fine=None)
        model = build(neck=None, text=dict(context=context), **ranks)
        (found,) = predict(model, [sample])
        assert torch.equal(found.scores[0], found.scores[1]) == equal


def test_duplicates_of_the_best_box_are_no_targets(build):
    """They count as proposals; offsets between equal boxes would be 0, so they are left out."""
    twice = boxes([[5, 5, 30, 30]] * 6)
    for refine in ('always', 'never'):
        losses = losses_per_image(build(refine=refine).train(), [pack(**twice)])
        # Equal boxes look alike, so they also move alike.
        assert losses['loss_reg_coarse'] == 0 and losses['loss_reg_fine'] == 0
    sample = pack(**twice)['data_samples']
    assert len(sample.proposals) == 6


def test_a_relation_to_itself_is_a_loop(build):
    """The phrase's own feature comes back through the graph, and its loss counts (spec 2.6)."""
    model = build(refine='never').eval()
    model.neck.message.bias.data.fill_(0.3)
    found = []
    for name in ('one phrase', 'one phrase, related to itself'):
        data = model.data_preprocessor(pseudo_collate([pack(**ODD[name])]))
        found.append((model._edges(data['inputs']), losses_per_image(model, [pack(**ODD[name])])))
    assert not found[0][0].any() and found[1][0].tolist() == [[[True]]]
    assert found[0][1]['loss_relation'] == 0 < found[1][1]['loss_relation']
    assert found[0][1]['loss_recon_fine'] != found[1][1]['loss_recon_fine']


def test_boxes_beyond_the_picture_are_cut_before_they_count():
    proposals = pack(**ODD['boxes at and over the border'])['data_samples'].proposals
    assert proposals.bboxes.tolist()[2:4] == [[0, 0, 30, 20], [30, 20, 60, 48]]
    proposals = pack(**ODD['boxes without area or outside'])['data_samples'].proposals
    assert proposals.bboxes.tolist() == [[9, 9, 30, 30]] and proposals.labels.tolist() == [2]


def test_unknown_words_are_one_word():
    """Where the vocabulary has ``<unk>``; else they are an error that names record and remedy."""
    sample = pack(**ODD['no known word'])['data_samples']
    assert sample.caption_ids == [1, 1, 1, 1, 1] and sample.word_ids == [[-1, -1], [-1, -1]]
    encode = dict(
        type='EncodePhrases', caption_vocab=WORDS[1:], phrase_vocab=WORDS, table_words=TABLE
    )
    with pytest.raises(ValueError, match="a record: .*neither 'the'"):
        Compose([encode])(record(**ODD['no known word']))
