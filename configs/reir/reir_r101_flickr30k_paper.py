_base_ = ['./reir_r101_flickr30k.py', '../_base_/reir_profiles/paper.py']

model = _base_.profile
