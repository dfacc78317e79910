"""The converter of bottom-up-attention detectors into ReIR's frozen backbone."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torchvision.models import resnet101

STEM = {'conv1': 'RCNN_base.0', 'bn1': 'RCNN_base.1', 'layer1': 'RCNN_base.4'}
STAGES = {'layer2': 'RCNN_base.5', 'layer3': 'RCNN_base.6', 'layer4': 'RCNN_top.0'}


@pytest.fixture(scope='module')
def converter(import_converter):
    return import_converter('bottom_up')


@pytest.fixture(scope='module')
def official(light_tensors):
    """A detector on torchvision's ResNet-101, the names of whose weights mmdet has, too."""
    with torch.device('meta'):
        shapes = {k: v.shape for k, v in resnet101(weights=None).state_dict().items()}
    names = {**STEM, **STAGES}
    parts = {k: k.partition('.') for k in shapes if not k.startswith('fc.')}
    renamed = {f'{names[a]}.{b}': shapes[k] for k, (a, _, b) in parts.items()}
    heads = {'RCNN_rpn.RPN_Conv.weight': (512, 1024, 3, 3), 'RCNN_cls_score.bias': (1601,)}
    return light_tensors({**renamed, **heads})


@pytest.fixture
def paths(tmp_path):
    return str(tmp_path / 'official.pth'), str(tmp_path / 'new' / 'converted.pth')


@pytest.mark.parametrize('wrapped', [True, False])
def test_every_weight_of_the_backbone_comes_from_the_detector(
    converter, official, paths, repository, wrapped
):
    torch.save(dict(model=official, session=1, epoch=10) if wrapped else official, paths[0])
    report = converter.convert(*paths)
    assert 'RCNN_top.0' in report and 'RCNN_rpn.RPN_Conv.weight' in report
    state = torch.load(paths[1], weights_only=True)['state_dict']
    model = Config.fromfile(repository / 'configs/reir/reir_r101_flickr30k.py').model
    names = {**STEM, **STAGES}
    for part in ('backbone', 'shared_head'):
        with torch.device('meta'):
            expected = MODELS.build(model[part]).state_dict()
        for name, tensor in expected.items():
            if name.endswith('num_batches_tracked'):
                continue
            stage, _, rest = name.partition('.')
            found = state.pop(f'{part}.{name}')
            assert found.shape == tensor.shape
            assert torch.equal(found, official[f'{names[stage]}.{rest}'])
    assert not state


def test_an_incomplete_or_foreign_file_is_refused(converter, official, paths):
    damaged = {k: v for k, v in official.items() if k != 'RCNN_top.0.2.conv3.weight'}
    for content, message in (
        (damaged, 'shared_head.layer4.2.conv3.weight'),
        (dict(a=torch.zeros(1)), 'tensors are missing'),
        ({**official, 'RCNN_base.7.weight': torch.zeros(1)}, 'RCNN_base.7.weight'),
    ):
        torch.save(content, paths[0])
        with pytest.raises(ValueError, match=message):
            converter.convert(*paths)
