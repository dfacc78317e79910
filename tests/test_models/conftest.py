"""A TransVG that builds in a moment, batches as a data loader gives them, QRNet's gates in full."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.bert import modeling_bert


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


_ASKING = 'nonzero', 'masked_select', '_local_scalar_dense', 'repeat_interleave', '_unique2'


class HostWaits(TorchDispatchMode):
    """Notes most operations for which the host of a GPU would wait, to learn a size or a value."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ('index', 'index_put', 'index_put_') and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name in _ASKING:
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


@contextmanager
def _half_precision():
    with torch.backends.mkldnn.flags(enabled=False), torch.autocast('cpu', torch.bfloat16):
        yield


@pytest.fixture
def half_precision():
    """Autocast to bfloat16; without oneDNN, whose LSTM fails on CPUs that lack AVX-512."""
    return _half_precision


@pytest.fixture
def plain():
    """QRNet's gates by their definition, for one query: ``dynamic_linear``, ``gate``; and
    ``randomise``, since at the initial V = 0 every gate is the same."""
    return SimpleNamespace(
        dynamic_linear=plain_dynamic_linear, gate=plain_gate, randomise=randomise
    )


class FakeGPU:
    """A GPU that need not be there: its tensors know where they are and have no numbers.

    What brings them together with a tensor of the CPU fails, as it would on a GPU.
    """

    device = torch.device('cuda', 0)

    def __init__(self):
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    @contextmanager
    def on(self, amp=False):
        """With the mode on, and automatic mixed precision if wanted."""
        with self.mode, torch.autocast('cuda', torch.float16, enabled=amp):
            yield

    def move(self, value):
        """Tensors in dicts, lists, annotations and modules (in place); with the mode on."""
        if isinstance(value, torch.Tensor):
            return self.mode.from_tensor(value, static_shapes=True).to(self.device)
        if isinstance(value, dict):
            return {k: self.move(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.move(v) for v in value)
        if isinstance(value, DetDataSample) and 'bboxes' in value.get('gt_instances', ()):
            value.gt_instances.bboxes = self.move(value.gt_instances.bboxes)
        for module in value.modules() if isinstance(value, nn.Module) else ():
            for name, tensor in module.named_parameters(recurse=False):
                moved = self.move(tensor.data)
                module._parameters[name] = nn.Parameter(moved, tensor.requires_grad)
            for name, tensor in module.named_buffers(recurse=False):
                module._buffers[name] = self.move(tensor)
        return value


def _run_gru(inputs, hidden, weights, biases, layers, dropout, training, both_ways, batch_first):
    """A stand-in that has the shape of a GRU's outputs and meets all its inputs."""
    width = hidden.shape[-1] * (2 if both_ways else 1)
    met = sum(tensor.sum() for tensor in (inputs, hidden, *weights))
    return inputs.new_zeros(*inputs.shape[:-1], width) + met, hidden


def _find_all(mask, as_tuple=False):
    """``nonzero`` of a mask that is true everywhere; without numbers nobody can tell."""
    found = mask.new_zeros((mask.numel(), mask.dim()), dtype=torch.long)
    return found.unbind(1) if as_tuple else found


@pytest.fixture
def fake_gpu(monkeypatch):
    """See :class:`FakeGPU`; without the few things that need a real GPU or real numbers."""
    monkeypatch.setattr(nn.modules.rnn._VF, 'gru', _run_gru, raising=False)
    monkeypatch.setattr(nn.RNNBase, 'flatten_parameters', lambda self: None)
    monkeypatch.setattr(torch.Tensor, 'nonzero', _find_all)
    monkeypatch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)
    # transformers 4 leaves out a mask that is true everywhere; 5 does not ask.
    if hasattr(modeling_bert, '_prepare_4d_attention_mask_for_sdpa'):
        from transformers.modeling_attn_mask_utils import _prepare_4d_attention_mask as whole

        monkeypatch.setattr(modeling_bert, '_prepare_4d_attention_mask_for_sdpa', whole)
    return FakeGPU()
