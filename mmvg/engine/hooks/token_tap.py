import difflib

import torch
from torch import Tensor, nn

from mmvg.models.layers import downsample_padding

IMAGE_TOKENS = ('first_patch', 'first_valid', 'mean_valid', 'mean', 'learnable')
TEXT_TOKENS = ('cls', 'mean')


class TokenTap:
    """Listens to a submodule of a detector and picks one token per row of its output (spec 3.4).

    Args:
        kind (str): ``'image'`` or ``'text'``.
        module (str): Name of the submodule.
        token (str): One of ``IMAGE_TOKENS`` or ``TEXT_TOKENS``.
        output (int | str, optional): Which entry of the output, where it is a sequence or dict.
    """

    def __init__(self, kind: str, module: str, token: str, output: int | str | None = None) -> None:
        known = IMAGE_TOKENS if kind == 'image' else TEXT_TOKENS
        if token not in known:
            raise ValueError(f'{kind}_tap.token must be one of {known}, not {token!r}')
        self.kind, self.name, self.token, self.output = kind, module, token, output
        self.captured: dict[str, object] = {}
        self.listening = False
        self._handles: list = []

    def find(self, model: nn.Module) -> nn.Module:
        """The submodule; ValueError if the model has none of this name or no such token."""
        modules = dict(model.named_modules())
        if self.name not in modules:
            close = difflib.get_close_matches(self.name, modules, n=4, cutoff=0.4)
            hint = close or [name for name, _ in model.named_children()]
            raise ValueError(
                f"{self.kind}_tap.module '{self.name}' is no submodule of {type(model).__name__}; "
                f'near names: {", ".join(hint)}'
            )
        # The module that knows the parts of a joint sequence, such as RegTokenHead of its fusion.
        owner = model.get_submodule(self.name.rpartition('.')[0])
        self._parts = getattr(owner, 'sequence_parts', None) if 'fusion' in self.name else None
        if self.token == 'learnable' and 'vls' not in (self._parts(100) if self._parts else ()):
            raise ValueError(
                "image_tap.token 'learnable' needs module 'bbox_head.fusion' and "
                'model.bbox_head.learnable_vls=True'
            )
        return modules[self.name]

    def attach(self, model: nn.Module) -> None:
        """Start to listen, wherever ``listening`` is set."""
        module = self.find(model)
        if self._parts:
            self._handles.append(
                module.register_forward_pre_hook(self._ask_for_rows, with_kwargs=True)
            )
        self._handles.append(module.register_forward_hook(self._capture))
        encoder = getattr(model, 'visual_encoder', None)
        if self.kind == 'image' and encoder is not None:
            self._handles.append(encoder.register_forward_hook(self._capture_mask))

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles, self.captured = [], {}

    def _ask_for_rows(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple | None:
        """A fusion that computes the [REG] row only is asked for the rows down to the token."""
        if not self.listening:
            return None
        tokens, _, mask = args
        part = self._part(tokens.shape[1])
        self.captured.update(part=part, mask=mask[:, part])
        last = part.stop if self.token in ('first_valid', 'mean_valid', 'mean') else part.start + 1
        rows = kwargs.get('rows')
        return args, {**kwargs, 'rows': None if rows is None else max(rows, last)}

    def _part(self, length: int) -> slice:
        name = dict(learnable='vls').get(self.token, 'visual' if self.kind == 'image' else 'text')
        return self._parts(length)[name]

    def _capture(self, module: nn.Module, args: tuple, output: object) -> None:
        if self.listening:
            self.captured['output'] = output

    def _capture_mask(self, module: nn.Module, args: tuple, output: object) -> None:
        if self.listening and isinstance(output, dict):
            self.captured.setdefault('mask', output.get('visual_padding_mask'))

    def take(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The token of every row, and whether it is padding, where that is known.

        Args:
            inputs (dict): ``image_index`` (Q,), the image of each query; if known
                ``image_padding_mask`` B x H x W and ``text_padding_mask`` Q x T, True = padding.

        Returns:
            tuple: Tokens R x C (R is B or Q) and padding (R,) or None.
        """
        if 'output' not in self.captured:
            raise ValueError(f"{self.kind}_tap.module '{self.name}' did not run in this step")
        tokens, captured = self._select(self.captured.pop('output')), self.captured
        self.captured = {}
        mask, image_padding_mask = captured.get('mask'), inputs.get('image_padding_mask')
        if tokens.dim() == 4:  # a map: its cells are the tokens
            size = tokens.shape[-2:]
            tokens = tokens.flatten(2).transpose(1, 2)
            mask = None
            if image_padding_mask is not None:
                mask = downsample_padding(image_padding_mask, size).flatten(1)
        elif 'part' in captured:
            tokens = tokens[:, captured['part']]
        if self.kind == 'text':
            return self._pick_text(tokens, captured.get('mask', inputs.get('text_padding_mask')))
        if self.token == 'learnable':
            mask = None
        elif mask is not None and len(mask) != len(tokens):
            mask = mask[inputs['image_index']]  # one map per query, one mask per image
        return self._pick(tokens, mask)

    def _select(self, output: object) -> Tensor:
        if isinstance(output, dict) and self.output is None:
            output = output.get(dict(image='visual_tokens', text='text_tokens')[self.kind], output)
        elif self.output is not None:
            output = output[self.output]
        elif isinstance(output, (list, tuple)):
            output = output[-1]  # of a pyramid of maps
        if not isinstance(output, Tensor) or output.dim() not in (3, 4):
            raise ValueError(
                f"{self.kind}_tap.module '{self.name}' gives {type(output).__name__}, not tokens "
                'B x N x C or a map B x C x h x w; say which entry by the key output'
            )
        return output

    def _pick_text(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, None]:
        if self.token == 'cls':
            return tokens[:, 0], None
        known = mask is not None and mask.shape == tokens.shape[:2]
        return _mean(tokens, ~mask) if known else tokens.mean(1), None

    def _pick(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.token == 'mean':
            return tokens.mean(1), None
        if self.token not in ('first_valid', 'mean_valid'):
            return tokens[:, 0], None if mask is None else mask[:, 0]
        if mask is None:
            raise ValueError(
                f"image_tap.token '{self.token}' needs a padding mask, which module '{self.name}' of "
                "this detector does not have; use 'mean' or 'first_patch'"
            )
        valid = ~mask
        if self.token == 'mean_valid':
            return _mean(tokens, valid), None
        first = valid.to(torch.uint8).argmax(1)
        return tokens[torch.arange(len(tokens), device=tokens.device), first], None


def _mean(tokens: Tensor, valid: Tensor) -> Tensor:
    weights = valid.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(1) / weights.sum(1)
