# Ablation: the gates see a constant instead of the query, which then reaches the fusion only.
_base_ = './qrnet_shapes.py'

model = dict(constant_text=True)
