# Ours: no learning, the box whose category fits the phrase best; of equal ones, the detector's best.
#     python tools/test.py reir_argmax none
_base_ = ['../reir_r101_flickr30k.py', '../../_base_/reir_profiles/argmax.py']

model = _base_.profile
train_dataloader = None
train_cfg = None
optim_wrapper = None
param_scheduler = None
load_from = None
