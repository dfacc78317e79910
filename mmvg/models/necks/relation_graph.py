import math

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.masked_softmax import masked_softmax

VARIANTS = ('code', 'paper')


@MODELS.register_module()
class RelationGraphNeck(BaseModule):
    """Lets phrases that a relation connects see each other's visual features (ReIR, Eq. 5-8).

    A node is a phrase, its feature the attended mean of the phrase's boxes. One step of message
    passing gives every node a context, which is dealt out to the boxes of the phrase. Spec 2.6, A19.
    A caption without relations passes unchanged in both variants, as in the release (spec 2.6); Eq. 6
    and 8, read literally, would add a phrase's own feature to its boxes even there.

    Args:
        embed_dims (int): C.
        gate_dims (int): Width in which nodes are compared (``'code'``).
        variant (str): ``'code'``, the release: a gate ReLU(t_i . t_j / sqrt(d)), edges of gate 0 are
            dead, the context is ReLU(Linear(sum of neighbours)); ``'paper'``, Eq. 6 and 7: messages
            F_M(z_j), weighted by the softmax of F_M(z_i) . F_M(z_j) over all neighbours, added to
            z_i.
        gate_relu (bool): Off, no edge is dead: ``'code'`` then takes the softmax over all neighbours.
        residual (bool, optional): The context has the node itself, too; None: with ``'paper'`` only.
        attention (str): ``'learned'`` or ``'uniform'`` over the neighbours.
        isolated_zero (bool): Nodes without a neighbour get no context (``'code'``: the bias leaks to
            them, as in the release).
    """

    def __init__(
        self,
        embed_dims: int = 1024,
        gate_dims: int = 512,
        variant: str = 'code',
        attention: str = 'learned',
        isolated_zero: bool = False,
        gate_relu: bool = True,
        residual: bool | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if variant not in VARIANTS:
            raise ValueError(f'variant must be one of {VARIANTS}, not {variant!r}')
        if attention not in ('learned', 'uniform'):
            raise ValueError(f"attention must be 'learned' or 'uniform', not {attention!r}")
        self.variant = variant
        self.attention = attention
        self.isolated_zero = isolated_zero
        self.gate_relu = gate_relu
        self.residual = variant == 'paper' if residual is None else residual
        self.message = nn.Linear(embed_dims, embed_dims)
        if variant == 'code':
            self.gate = nn.Linear(embed_dims, gate_dims)
            # Learned weights or not, a checkpoint has the same parameters.
            self.gate.requires_grad_(attention == 'learned')

    def forward(self, visual: Tensor, attention: Tensor, edges: Tensor) -> Tensor:
        """Add context to the features of the boxes.

        Args:
            visual (Tensor): B x N x K x C, features of the boxes of each phrase.
            attention (Tensor): B x N x K, their weights.
            edges (Tensor): B x N x N bool, symmetric. An image without any is left as it is.

        Returns:
            Tensor: B x N x K x C.
        """
        nodes = (attention.unsqueeze(-1) * visual).sum(2)
        context = self._paper(nodes, edges) if self.variant == 'paper' else self._code(nodes, edges)
        if self.residual:
            context = nodes + context
        if self.isolated_zero:
            context = context * edges.any(-1, keepdim=True)
        related = edges.flatten(1).any(1)[:, None, None, None]
        return visual + related * attention.unsqueeze(-1) * context.unsqueeze(2)

    def _code(self, nodes: Tensor, edges: Tensor) -> Tensor:
        if self.attention == 'uniform':
            gate = edges.to(nodes.dtype)
        else:
            compared = self.gate(nodes)
            gate = compared @ compared.transpose(1, 2) / math.sqrt(compared.shape[-1])
        alive = edges & (gate > 0) if self.gate_relu else edges
        weights = masked_softmax(gate, alive)
        return self.message(weights @ nodes).relu()

    def _paper(self, nodes: Tensor, edges: Tensor) -> Tensor:
        messages = self.message(nodes).relu()
        likeness = messages @ messages.transpose(1, 2)
        if self.attention == 'uniform':
            likeness = torch.zeros_like(likeness)
        return masked_softmax(likeness, edges) @ messages
