import torch
from torch import Tensor, nn


class DynamicLinear(nn.Module):
    """A linear layer whose weight and bias are predicted from the query (QRNet; spec 2.4).

    For a text vector t the matrix P(t) = U(t) V has I + 1 rows: the first I are the weight, the last
    is the bias. U(t), (I + 1) x k, is a linear map of t; V, k x O, is learned and shared by all
    queries. P itself is not formed: ``x W = (x U) V`` is computed in the cheaper order.

    Args:
        in_channels (int): I.
        out_channels (int): O.
        text_channels (int): Width of the text vectors.
        rank (int): k.
        v_init (float): Standard deviation of the initial V. 0, as released, makes the layer give
            exactly 0 at the start of the training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        text_channels: int,
        rank: int = 30,
        v_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.decoder = nn.Linear(text_channels, (in_channels + 1) * rank)
        self.V = nn.Parameter(v_init * torch.randn(rank, out_channels))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Map Q x T x I to Q x T x O (or Q x I to Q x O) by the weights of Q x Ct text vectors."""
        if x.dim() == 2:
            return self(x[:, None], text)[:, 0]
        (rank, outs), (tokens, ins) = self.V.shape, x.shape[1:]
        u = self.decoder(text).unflatten(-1, (ins + 1, rank))
        u_weight, u_bias = u[:, :-1], u[:, -1:]
        if tokens * rank * (ins + outs) <= ins * outs * (rank + tokens):
            return (x @ u_weight + u_bias) @ self.V
        return x @ (u_weight @ self.V) + u_bias @ self.V
