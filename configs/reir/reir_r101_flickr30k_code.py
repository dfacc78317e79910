_base_ = ['./reir_r101_flickr30k.py', '../_base_/reir_profiles/code.py']

model = _base_.profile
val_evaluator = dict(type_stage='coarse')  # A37
test_evaluator = dict(type_stage='coarse')
