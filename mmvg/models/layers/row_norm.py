import torch
from torch import Tensor, nn

KINDS = ('image_bn', 'batch_bn', 'layernorm', 'none')


class ImageBatchNorm(nn.BatchNorm1d):
    """Batch normalisation with statistics of each image on its own (ReIR; spec 2.1, 2.2, A20).

    The released code calls a BatchNorm1d once per image, with the phrases or boxes of that image as
    its batch; here all images of a batch are normalised at once, with the same results and the
    same running statistics, that is, updated image after image. A single row gives the bias.
    """

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Normalise B x R x C; rows that ``valid`` (B x R bool) leaves out become 0."""
        x = x.float()
        weights = valid.unsqueeze(-1).float()
        if self.training or not self.track_running_stats:
            count = weights.sum(1, keepdim=True)
            mean = (x * weights).sum(1, keepdim=True) / count.clamp(min=1)
            var = ((x - mean).square() * weights).sum(1, keepdim=True) / count.clamp(min=1)
            if self.training and self.track_running_stats:
                self._track(mean[:, 0], var[:, 0], count[:, 0])
        else:
            mean, var = self.running_mean, self.running_var
        x = (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias
        return x * weights

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """The exponential average after all images that have rows, one after the other."""
        seen = (count > 0).float()  # B x 1
        later = seen.flip(0).cumsum(0).flip(0) - seen  # how many updates follow that of an image
        shares = self.momentum * (1 - self.momentum) ** later * seen
        kept = (1 - self.momentum) ** seen.sum()
        rows = count.clamp(min=2)
        unbiased = var * rows / (rows - 1)
        self.running_mean.mul_(kept).add_((shares * mean).sum(0))
        self.running_var.mul_(kept).add_((shares * unbiased).sum(0))
        self.num_batches_tracked += seen.sum().long()


class RowNorm(nn.Module):
    """Normalisation of the rows (phrases or boxes) of a batch of images.

    Args:
        channels (int): C.
        kind (str): ``'image_bn'``, see :class:`ImageBatchNorm`; ``'batch_bn'``, with the rows of all
            images as one batch, which keeps its meaning where an image has one row; ``'layernorm'``;
            or ``'none'``.
        momentum (float): Of the running statistics.
    """

    def __init__(self, channels: int, kind: str = 'image_bn', momentum: float = 0.1) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f'kind of normalisation must be one of {KINDS}, not {kind!r}')
        self.kind = kind
        if kind.endswith('bn'):
            self.norm = ImageBatchNorm(channels, momentum=momentum)
        else:
            self.norm = nn.LayerNorm(channels) if kind == 'layernorm' else nn.Identity()

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """B x R x C and B x R bool -> B x R x C; rows that are not valid are 0."""
        if self.kind == 'image_bn':
            return self.norm(x, valid)
        if self.kind == 'batch_bn':
            return self.norm(x.flatten(0, 1)[None], valid.flatten()[None]).view_as(x)
        return self.norm(x) * valid.unsqueeze(-1)
