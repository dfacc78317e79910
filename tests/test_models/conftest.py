"""A TransVG that builds in a moment, batches as a data loader gives them, QRNet's gates in full."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.fixture
def tiny_config(repository):
    """Model part of the Shapes recipe, with two fusion layers."""
    cfg = Config.fromfile(repository / 'configs/_base_/models/transvg_tiny.py').model
    cfg.bbox_head.num_layers = 2
    return cfg


@pytest.fixture
def tiny_model(tiny_config):
    """A small TransVG with fixed random weights, in evaluation mode."""
    torch.manual_seed(0)
    return MODELS.build(tiny_config).eval()


@pytest.fixture
def make_sample():
    """Function that makes a loader's item: a 64 px picture with queries given as token id lists."""

    def make(seed, queries, content_box=None, homography=None):
        rng = np.random.RandomState(seed)
        image = torch.from_numpy(rng.randint(0, 256, (3, 64, 64)).astype(np.uint8))
        x1, y1 = rng.randint(0, 30, (2, len(queries), 1))
        bboxes = np.concatenate([x1, y1, x1 + 20, y1 + 25], axis=1)
        sample = DetDataSample(
            metainfo=dict(
                img_path=f'{seed}.png',
                ori_shape=(64, 64),
                img_shape=(64, 64),
                content_box=content_box,
                homography_matrix=homography,
                queries=[str(q) for q in queries],
                query_token_ids=queries,
            )
        )
        sample.gt_instances = InstanceData(bboxes=torch.tensor(bboxes, dtype=torch.float32))
        return dict(inputs=image, data_samples=sample)

    return make


def plain_dynamic_linear(layer, x, text):
    """x (T x I) times the whole matrix P(t) of one text vector, built row by row (spec 2.4)."""
    rank = len(layer.V)
    u = layer.decoder.weight @ text + layer.decoder.bias
    rows = [sum(u[i * rank + k] * layer.V[k] for k in range(rank)) for i in range(len(u) // rank)]
    return x @ torch.stack(rows[:-1]) + rows[-1]


def plain_gate(gate, x, text):
    """One map's tokens (T x C) under one text vector: channels, then positions."""
    if gate.channel_mlp is not None:
        first, second = gate.channel_mlp
        pools = x.mean(0, keepdim=True), x.max(0, keepdim=True).values
        hidden = [plain_dynamic_linear(first, pool, text).relu() for pool in pools]
        x = x * sum(plain_dynamic_linear(second, h, text) for h in hidden).sigmoid()
    if gate.spatial is not None:
        x = x * plain_dynamic_linear(gate.spatial, x, text).sigmoid()
    return x


def randomise(module, std, *names):
    """Draw every V below a module, or those whose names end in one of ``names``."""
    generator = torch.Generator().manual_seed(3)
    for name, p in module.named_parameters():
        if name.endswith(names or 'V'):
            p.data.normal_(0, std, generator=generator)
    return module


class HostWaits(TorchDispatchMode):
    """Notes every operation for which the host of a GPU would wait, to learn a size or a value."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ('index', 'index_put', 'index_put_') and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name in ('nonzero', 'masked_select', '_local_scalar_dense'):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def host_waits(monkeypatch):
    """Run a function; returns the names of what a GPU's host would wait for."""

    def host_waits(function):
        with HostWaits() as waits, monkeypatch.context() as patch:
            read = torch.Tensor.tolist  # is not dispatched
            patch.setattr(
                torch.Tensor, 'tolist', lambda t: (waits.names.append('tolist'), read(t))[1]
            )
            function()
        return waits.names

    return host_waits


@pytest.fixture
def plain():
    """QRNet's gates by their definition, for one query: ``dynamic_linear``, ``gate``; and
    ``randomise``, since at the initial V = 0 every gate is the same."""
    return SimpleNamespace(
        dynamic_linear=plain_dynamic_linear, gate=plain_gate, randomise=randomise
    )
