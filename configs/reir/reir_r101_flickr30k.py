_base_ = [
    '../_base_/models/reir_r101.py',
    '../_base_/datasets/flickr30k_entities_captions.py',
    '../_base_/schedules/reir_80k.py',
]

model = dict(
    data_preprocessor=dict(num_relations=_base_.relation_categories),
    language_model=dict(vocab_size=_base_.caption_vocab),
    category_similarity=dict(table=_base_.word_table),
    bbox_head=dict(vocab_size=_base_.phrase_vocab, num_relations=_base_.relation_categories),
    loss_relation=dict(class_counts=_base_.relation_categories),
)
load_from = 'checkpoints/bottom-up_r101.pth'  # initial weights, see README.md
