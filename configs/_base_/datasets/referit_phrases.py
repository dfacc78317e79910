# ReferItGame for ReIR: a query is a caption of one phrase (A31), so there are no relations. See README.md
# here for the files of the data set; README.md in configs/reir says how the other files are made.
_base_ = './reir_loaders.py'

root = '{{$MMVG_REFERIT_ROOT:data/referit}}'
text_dir = root + '/{{$MMVG_REIR_TEXT:text}}/'
caption_vocab = text_dir + 'caption_vocab.json'
phrase_vocab = text_dir + 'phrase_vocab.json'
word_table = text_dir + 'word_table.safetensors'

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
steps = _base_.resize + [propose, encode] + _base_.pack
train_pipeline = _base_.load + steps
test_pipeline = _base_.load_truth + steps

referit = dict(
    type='ReferItGameDataset',
    layout='transvg',
    data_root=root,
    data_prefix=dict(img='images/'),
)
val = dict(
    ann_file='referit_val.pth', name='val', test_mode=True, pipeline=test_pipeline, **referit
)
test = dict(
    ann_file='referit_test.pth', name='test', test_mode=True, pipeline=test_pipeline, **referit
)

# Index files have no sizes to group pictures by; those of ReferItGame are 480 x 360 or 360 x 480 px.
train_dataloader = dict(
    drop_last=True,
    dataset=dict(ann_file='referit_train.pth', name='train', pipeline=train_pipeline, **referit),
)
val_dataloader = dict(dataset=val)
test_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[val, test]))
