import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn
from torchvision.models import resnet50
from torchvision.ops import FrozenBatchNorm2d


@pytest.mark.parametrize('norm', [nn.BatchNorm2d, FrozenBatchNorm2d])
def test_the_recipes_backbone_equals_torchvisions_with_fixed_statistics(repository, norm):
    """P4: the statistics are buffers and stay as they are, in training too (spec 1.5)."""
    cfg = Config.fromfile(repository / 'configs/_base_/models/transvg_r50.py')
    torch.manual_seed(0)
    ours = MODELS.build(cfg.model.backbone)
    ours.train()
    generator = torch.Generator().manual_seed(1)
    for name, buffer in ours.named_buffers():
        low, high = (0.5, 1.5) if name.endswith(('weight', 'var')) else (-0.5, 0.5)
        buffer.uniform_(low, high, generator=generator)
    before = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    reference = resnet50(weights=None, norm_layer=norm)
    report = reference.load_state_dict(ours.state_dict(), strict=False)
    missing = [k for k in report.missing_keys if not k.endswith('num_batches_tracked')]
    assert (missing, report.unexpected_keys) == (['fc.weight', 'fc.bias'], [])
    stages = nn.Sequential(*list(reference.eval().children())[:-2])
    images = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        expected = stages(images)
        assert (ours(images)[0] - expected).abs().max() < 1e-5 * expected.abs().max()
    assert all(torch.equal(buffer, before[name]) for name, buffer in ours.named_buffers())
    frozen = [p.numel() for p in ours.parameters() if not p.requires_grad]
    assert (len(frozen), sum(frozen)) == (11, 222_400)
