# A query is a caption of one phrase: no relations, and statistics of all queries of a batch, as those of
# one phrase would leave nothing of it (A20, A31). The ranking stays: a query has to fit its picture,
# that is, the box found in it, better than others; it is all that tells queries apart which contain the
# same categories.
_base_ = [
    '../_base_/models/reir_r101.py',
    '../_base_/datasets/referit_phrases.py',
    '../_base_/schedules/reir_80k.py',
]

model = dict(
    language_model=dict(vocab_size=_base_.caption_vocab),
    category_similarity=dict(table=_base_.word_table),
    bbox_head=dict(
        vocab_size=_base_.phrase_vocab,
        num_relations=0,
        phrase_norm='batch_bn',
        visual_norm='batch_bn',
    ),
    neck=None,
    loss_relation=None,
)
load_from = 'checkpoints/bottom-up_r101.pth'  # initial weights, see README.md
