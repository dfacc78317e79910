# Table 3: 10 candidates per phrase.
_base_ = '../reir_r101_flickr30k.py'

model = dict(bbox_head=dict(top_k=10))
