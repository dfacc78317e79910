# Table 2, row 5: TSD, graph and relation classification (VOGN & RC).
_base_ = '../reir_r101_flickr30k.py'

model = dict(bbox_head=dict(regressor='none'), loss_reg_coarse=None, loss_reg_fine=None)
