import hashlib
import json
from collections.abc import Callable, Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mmvg.datasets.transforms.square_view import square_view

from .clip_loading import build_clip, import_open_clip
from .clip_text import build_clip_tokenizer
from .embedding_cache import EmbeddingCache, first_positions

_CACHE = dict(max_mb=256, dir=None)


@MODELS.register_module()
class OpenCLIPTeacher(BaseModule):
    """Image and text towers of a CLIP from open_clip, as teacher (EpmVG; spec 3.1, 3.2 A3-A15).

    Frozen (default): in evaluation mode always, without gradients, and with a cache for what
    recurs. Its weights are read when it is built, since no checkpoint holds them.

    Args:
        model_name (str): Architecture known to open_clip.
        pretrained (str, optional): open_clip's tag of weights; or a local file, ``.safetensors`` or a
            pickle of tensors and nothing else. None: random weights. OpenAI's are trained with
            QuickGELU: tags see to it, for a file use the name with ``-quickgelu``.
        config (dict, optional): An architecture of one's own in place of ``model_name``:
            ``embed_dim``, ``vision_cfg``, ``text_cfg`` as ``open_clip.CLIP`` takes them.
        tokenizer (str, optional): What ``mmvg.text.tokenizer.build_tokenizer`` takes, for a text tower
            trained with it. Default: that of open_clip.
        prompt (str): ``{}`` stands for the text.
        preproc (str): From the network input to CLIP's square: ``'letterbox'`` takes the whole canvas,
            ``'content'`` the picture without padding, ``'clip_center_crop'`` the central square
            of the picture without padding, which is CLIP's own way.
        normalize (bool): Embeddings of length 1.
        trainable (bool): Gradients flow, nothing is cached. CLIP's temperature stays frozen: no
            embedding depends on it.
        truncate (bool): Cut texts that are too long, instead of an error.
        cache (dict, optional): Arguments of :class:`EmbeddingCache`; None: none.

    Raises:
        ImportError: If open_clip is not installed.
        FileNotFoundError, ValueError: See :func:`build_clip` and :func:`build_clip_tokenizer`.
    """

    def __init__(
        self,
        model_name: str = 'ViT-B-32',
        pretrained: str | None = 'openai',
        config: dict | None = None,
        tokenizer: str | None = None,
        prompt: str = '{}',
        preproc: str = 'letterbox',
        normalize: bool = True,
        trainable: bool = False,
        truncate: bool = False,
        cache: dict | None = _CACHE,
    ) -> None:
        super().__init__()
        if preproc not in ('letterbox', 'content', 'clip_center_crop'):
            raise ValueError(
                f"preproc must be 'letterbox', 'content' or 'clip_center_crop', got {preproc!r}"
            )
        if '{}' not in prompt:
            raise ValueError(f"prompt must contain '{{}}', where the text goes, got {prompt!r}")
        model_name = model_name.replace('/', '-')
        # The weights of the student must not depend on whether there is a teacher.
        with torch.random.fork_rng(devices=[]):
            self.clip, self._architecture = build_clip(model_name, pretrained, config)
        self._tokens = build_clip_tokenizer(
            self.clip, model_name if config is None else None, tokenizer
        )
        self.prompt = prompt
        self.preproc = preproc
        self.normalize = normalize
        self.trainable = trainable
        self.truncate = truncate
        self._preprocess_cfg = cfg = self.clip.visual.preprocess_cfg
        size = cfg['size']
        self.image_size: int = size if isinstance(size, int) else size[0]
        if not isinstance(size, int) and size[0] != size[1]:
            raise ValueError(f'the image tower takes {size}; only square ones are supported')
        for name in ('mean', 'std'):
            values = torch.tensor(cfg[name]).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.clip.requires_grad_(trainable)
        self.clip.logit_scale.requires_grad_(False)
        if getattr(self.clip, 'logit_bias', None) is not None:
            self.clip.logit_bias.requires_grad_(False)
        self.train()
        self._cache_cfg = None if trainable else cache
        self._start_cache()
        self.register_load_state_dict_post_hook(lambda module, _: module._start_cache())

    @property
    def embed_dims(self) -> int:
        """Width d of the embeddings."""
        return self._architecture['embed_dim']

    @property
    def view_cfg(self) -> dict:
        """The arguments of ``AddTeacherView`` for this teacher; without padding, two are one."""
        crops = self.preproc == 'clip_center_crop'
        return dict(size=self.image_size, preproc='clip_center_crop' if crops else 'letterbox')

    @property
    def fingerprint(self) -> str:
        """Hash of what embeddings depend on: architecture, weights, preprocessing, open_clip."""
        facts = dict(
            open_clip=import_open_clip().__version__.split('.')[0],
            architecture=self._architecture,
            preprocess=self._preprocess_cfg,
            preproc=self.preproc,
            tokenizer=self._tokens.name,
            truncate=self.truncate,
            normalize=self.normalize,
        )
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for name, tensor in sorted(self.clip.state_dict().items()):
            digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:32]

    def _start_cache(self) -> None:
        """A cache for the weights of this moment."""
        self.cache = None
        if self._cache_cfg is not None:
            on_disk = self._cache_cfg.get('dir') is not None
            arguments = dict(fingerprint=self.fingerprint) if on_disk else {}
            self.cache = EmbeddingCache(**self._cache_cfg, **arguments)

    def train(self, mode: bool = True) -> 'OpenCLIPTeacher':
        """Training mode for a trainable teacher only."""
        return super().train(mode and self.trainable)

    def encode_images(
        self,
        images: Tensor,
        padding_mask: Tensor | None = None,
        keys: Sequence[str] | None = None,
    ) -> Tensor:
        """Embed pictures.

        Args:
            images (Tensor): B x 3 x H x W, RGB, 0 to 255.
            padding_mask (Tensor, optional): B x H x W bool, True = padding.
            keys (Sequence[str], optional): B keys of the pictures' content, by which embeddings are
                cached; equal keys mean equal pictures.

        Returns:
            Tensor: B x d float32 on the device of the teacher.
        """

        def encode(picked: list[int] | slice) -> Tensor:
            mask = None if padding_mask is None else padding_mask[picked]
            return self._embed(self.clip.encode_image, self.preprocess(images[picked], mask))

        if keys is None:
            return encode(slice(None))
        if len(keys) != len(images):
            raise ValueError(f'{len(keys)} keys for {len(images)} pictures')
        return self._once_per_key([f'image:{key}' for key in keys], encode)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, each distinct one once.

        Args:
            texts (Sequence[str]): Q texts.

        Returns:
            Tensor: Q x d float32 on the device of the teacher.

        Raises:
            ValueError: If a text is longer than the context, unless ``truncate``.
        """
        if not texts:
            return self.mean.new_zeros(0, self.embed_dims)
        texts = [self.prompt.replace('{}', text) for text in texts]

        def encode(picked: list[int]) -> Tensor:
            chosen = [texts[i] for i in picked]
            if not self.truncate:
                self._check_lengths(chosen)
            return self._embed(self.clip.encode_text, self._tokens(chosen).to(self.mean.device))

        return self._once_per_key([f'text:{text}' for text in texts], encode)

    def preprocess(self, images: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Cut, resize and normalise as CLIP wants it: B x 3 x S x S.

        Arguments: :meth:`encode_images`. What a letterbox adds has CLIP's mean colour, as nearly has
        the padding of a canvas.
        """
        images = images.to(self.mean.device, torch.float32)
        if self.preproc == 'letterbox' or padding_mask is None:
            views = self._square(images)
        else:
            boxes = _content_boxes(padding_mask)
            crops = [image[:, y1:y2, x1:x2] for image, (x1, y1, x2, y2) in zip(images, boxes)]
            views = torch.stack([self._square(crop) for crop in crops])
        # Bicubic resizing overshoots; Pillow, with which CLIP was trained, cuts that off.
        return (views.clamp(0, 255) / 255 - self.mean) / self.std

    def _square(self, images: Tensor) -> Tensor:
        interpolation = self._preprocess_cfg['interpolation']
        return square_view(
            images,
            **self.view_cfg,
            fill=[255 * m for m in self._preprocess_cfg['mean']],
            interpolation='bilinear' if interpolation == 'bilinear' else 'bicubic',
        )

    def _embed(self, tower: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            embeddings = tower(inputs).float()
            return F.normalize(embeddings, dim=-1) if self.normalize else embeddings

    def _once_per_key(self, keys: list[str], encode: Callable[[list[int]], Tensor]) -> Tensor:
        if self.cache is not None:
            # What is kept is computed in full precision, whatever the run around it uses.
            with torch.autocast(self.mean.device.type, enabled=False):
                return self.cache.fetch(keys, encode).to(self.mean.device)
        position = first_positions(keys)
        rows = {key: n for n, key in enumerate(position)}
        return encode(list(position.values()))[[rows[key] for key in keys]]

    def _check_lengths(self, texts: list[str]) -> None:
        limit = self._tokens.context_length
        for text in texts:
            length = self._tokens.num_tokens(text)
            if length > limit:
                raise ValueError(
                    f'text {text!r} has {length} tokens, the context of the CLIP teacher {limit}; '
                    'shorten it, set truncate=True of the teacher, or use a teacher with a longer '
                    'context'
                )


def _content_boxes(padding_mask: Tensor) -> list[list[int]]:
    """x1, y1, x2, y2 of what is no padding; one transfer to the host."""
    inside = ~padding_mask
    edges = []
    for lines in (inside.any(1).int(), inside.any(2).int()):
        edges.append((lines.argmax(1), lines.shape[1] - lines.flip(1).argmax(1)))
    (x1, x2), (y1, y2) = edges
    return torch.stack([x1, y1, x2, y2], dim=1).tolist()
