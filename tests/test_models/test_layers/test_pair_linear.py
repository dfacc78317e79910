"""A linear layer on all pairs of phrase and box."""

import pytest
import torch
from torch import nn

from mmvg.models.layers.pair_linear import PairLinear


@pytest.mark.parametrize('own_boxes', [True, False])
def test_it_is_a_linear_layer_on_the_concatenation(own_boxes):
    """Phrases have boxes of their own, or share those of the image."""
    torch.manual_seed(0)
    layer, plain = PairLinear(5, 3, 4), nn.Linear(8, 4)
    plain.load_state_dict(layer.state_dict())
    phrases, visual = torch.randn(2, 6, 5), torch.randn(2, 6 if own_boxes else 1, 7, 3)
    found = layer(phrases, visual)
    assert found.shape == (2, 6, 7, 4)
    for b in range(2):
        for n in range(6):
            for p in range(7):
                box = visual[b, n if own_boxes else 0, p]
                pair = torch.cat([phrases[b, n], box])
                torch.testing.assert_close(found[b, n, p], plain(pair))


def test_it_adds_a_share_of_the_phrase_to_one_of_the_box():
    """So the order of boxes is the same for all phrases (spec 2.4)."""
    torch.manual_seed(0)
    scores = PairLinear(5, 3, 1)(torch.randn(1, 6, 5), torch.randn(1, 1, 7, 3))
    share = scores - scores[:, :1]
    torch.testing.assert_close(share, share[:, :, :1].expand_as(share), atol=1e-6, rtol=0)
