import torch.nn.functional as F
from torch import Tensor, nn


class PairLinear(nn.Linear):
    """A linear layer on [phrase; box] for all pairs, without building the pairs.

    W [x; o] + b = W_x x + W_o o + b: each side is multiplied once, then summed for every pair. The
    weight is that of ``nn.Linear`` on the concatenation, phrase first.

    Args:
        phrase_channels, visual_channels (int): Widths of the two sides.
        out_channels (int): Width of the result.
    """

    def __init__(self, phrase_channels: int, visual_channels: int, out_channels: int) -> None:
        super().__init__(phrase_channels + visual_channels, out_channels)
        self.phrase_channels = phrase_channels

    def forward(self, phrases: Tensor, visual: Tensor) -> Tensor:
        """B x N x Cq and B x (N or 1) x P x Cv -> B x N x P x out."""
        of_phrase, of_visual = self.weight.tensor_split([self.phrase_channels], 1)
        return F.linear(phrases, of_phrase, self.bias).unsqueeze(2) + F.linear(visual, of_visual)
