# Flickr30k Entities, one sample per caption with all its phrases that have a box, for ReIR. See README.md
# here for the files of the data set; README.md in configs/reir says how the other files are made.
_base_ = './reir_loaders.py'

root = '{{$MMVG_FLICKR30K_ROOT:data/flickr30k}}'
text_dir = root + '/{{$MMVG_REIR_TEXT:text}}/'
caption_vocab = text_dir + 'caption_vocab.json'
phrase_vocab = text_dir + 'phrase_vocab.json'
word_table = text_dir + 'word_table.safetensors'
relation_categories = root + '/relations/categories.json'

propose = dict(
    type='LoadBoxProposals',
    proposal_file=root + '/proposals',
    max_proposals=_base_.max_proposals,
    num_categories=word_table,
)
encode = dict(
    type='EncodePhrases',
    caption_vocab=caption_vocab,
    phrase_vocab=phrase_vocab,
    table_words=text_dir + 'table_words.json',
)
relate = dict(type='LoadRelations', categories=relation_categories)
steps = _base_.resize + [propose, encode]

captions = dict(
    type='Flickr30kEntitiesDataset',
    layout='entities',
    data_root=root,
    data_prefix=dict(img='flickr30k-images/'),
    box_origin='official',  # one pixel less, as the public parser reads them
)
train_pipeline = (
    _base_.load
    + steps
    + [dict(relations=root + '/relations/relations_train.jsonl', **relate)]
    + _base_.pack
)
val_pipeline = (
    _base_.load_truth
    + steps
    + [dict(relations=root + '/relations/relations_val.jsonl', **relate)]
    + _base_.pack
)
test_pipeline = (
    _base_.load_truth
    + steps
    + [dict(relations=root + '/relations/relations_test.jsonl', **relate)]
    + _base_.pack
)

train_dataloader = dict(
    # Landscape and portrait pictures are not mixed, as in the release: less padding.
    batch_sampler=dict(type='AspectRatioBatchSampler', drop_last=True),
    dataset=dict(ann_file='train.txt', name='train', pipeline=train_pipeline, **captions),
)
val_dataloader = dict(
    dataset=dict(ann_file='val.txt', name='val', test_mode=True, pipeline=val_pipeline, **captions)
)
test_dataloader = dict(
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(ann_file='val.txt', name='val', test_mode=True, pipeline=val_pipeline, **captions),
            dict(
                ann_file='test.txt', name='test', test_mode=True, pipeline=test_pipeline, **captions
            ),
        ],
    )
)
