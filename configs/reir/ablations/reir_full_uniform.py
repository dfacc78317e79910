# Table 2, row 6: all parts, but every neighbour in the graph weighs the same.
_base_ = '../reir_r101_flickr30k.py'

model = dict(neck=dict(attention='uniform'))
