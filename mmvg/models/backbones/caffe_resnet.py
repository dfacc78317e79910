from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from torch import nn


@MODELS.register_module()
class CaffeResNet(ResNet):
    """MMDetection's ResNet as the nets of Caffe are, such as that of bottom-up attention (spec reir 4).

    Three things differ from torchvision's, whose weights have the same names and shapes: the stride
    of a stage is in its first 1 x 1 convolution (``style='caffe'``, which MMDetection has), pictures
    are BGR from 0 to 255, and the max-pooling has no padding on the left and reaches beyond the right
    border instead. The last shifts all features by half a cell of the map of stride 4.

    Args:
        **kwargs: As of ``ResNet``.
    """

    def __init__(self, depth: int, style: str = 'caffe', **kwargs) -> None:
        super().__init__(depth, style=style, **kwargs)

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        super()._make_stem_layer(in_channels, stem_channels)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
