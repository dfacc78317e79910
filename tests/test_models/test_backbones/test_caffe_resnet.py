"""What Caffe's ResNet has that torchvision's has not (spec reir 4, A22)."""

import torch
from mmdet.registry import MODELS
from torch import nn

CONFIG = dict(depth=50, base_channels=4, stem_channels=4, num_stages=2, out_indices=(1,))
CONFIG.update(strides=(1, 2), dilations=(1, 1))


def test_the_pooling_has_no_padding_and_goes_beyond_the_right_border():
    caffe = MODELS.build(dict(type='CaffeResNet', **CONFIG))
    usual = MODELS.build(dict(type='ResNet', **CONFIG))
    x = torch.arange(8.0).repeat(1, 1, 8, 1)
    assert caffe.maxpool(x)[0, 0, 0].tolist() == [2, 4, 6, 7]
    assert usual.maxpool(x)[0, 0, 0].tolist() == [1, 3, 5, 7]


def test_strides_are_in_the_first_convolution_and_weights_are_the_same():
    caffe = MODELS.build(dict(type='CaffeResNet', **CONFIG))
    usual = MODELS.build(dict(type='ResNet', **CONFIG))
    block = caffe.layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    caffe.load_state_dict(usual.state_dict())
    images = torch.rand(1, 3, 64, 96)
    caffe.eval()
    usual.eval()
    with torch.no_grad():
        ours, theirs = caffe(images)[0], usual(images)[0]
    assert ours.shape == theirs.shape and not torch.allclose(ours, theirs)
    same = MODELS.build(dict(type='CaffeResNet', style='pytorch', **CONFIG))
    assert same.layer2[0].conv2.stride == (2, 2)


def test_the_last_stage_keeps_the_size_of_regions():
    """Spec 2.2: 2048 channels on 7 x 7, no dilation; the other way is 14 x 14 with dilation 2."""
    for size, dilation in ((7, 1), (14, 2)):
        config = dict(depth=50, stage=3, stride=1, dilation=dilation, style='caffe')
        with torch.device('meta'):
            layer = MODELS.build(dict(type='ResLayer', **config))
            assert layer(torch.rand(1, 1024, size, size)).shape == (1, 2048, size, size)
        kinds = {(m.kernel_size, m.dilation) for m in layer.modules() if isinstance(m, nn.Conv2d)}
        assert kinds == {((1, 1), (1, 1)), ((3, 3), (dilation, dilation))}
