from .caffe_resnet import CaffeResNet
from .query_swin import QueryModulatedSwin

__all__ = ['CaffeResNet', 'QueryModulatedSwin']
