"""A TransVG that builds in a moment, and batches as a data loader gives them."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData


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
