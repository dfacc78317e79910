# Table 2, row 3: TSD and STR, whose offsets do not depend on the phrase.
_base_ = './reir_tsd_str.py'

model = dict(bbox_head=dict(regressor='visual'))
