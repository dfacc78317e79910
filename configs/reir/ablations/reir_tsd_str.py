# Table 2, row 4: TSD and self-taught regression (STR).
_base_ = '../reir_r101_flickr30k.py'

model = dict(bbox_head=dict(num_relations=0), neck=None, loss_relation=None)
