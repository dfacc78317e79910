from itertools import accumulate

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import Tensor


@MODELS.register_module()
class GroundingDataPreprocessor(DetDataPreprocessor):
    """Collate images and the queries of all images into tensors on the model's device.

    mmdet's ``DetDataPreprocessor`` does the images; this class adds the padding mask, sets padding
    to zero *after* normalisation (the mean colour, spec 1.3), and flattens the queries of the
    batch.

    Args:
        pad_token_id (int): Fills up shorter queries; BERT's [PAD] is 0.
        Others: see ``DetDataPreprocessor``.
    """

    def __init__(self, *args, pad_token_id: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.pad_token_id = pad_token_id
        self.vocab_size: int | None = None  # a detector sets that of its language model

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turn what the data loader gave into what the model takes.

        Args:
            data (dict): ``inputs``, list of B uint8 tensors 3 x H x W, and ``data_samples``, whose
                metainfo holds ``query_token_ids`` and, for padded pictures, ``content_box``.

        Returns:
            dict: ``data_samples``, and ``inputs`` with ``images`` B x 3 x H x W,
            ``image_padding_mask`` B x H x W, ``input_ids`` Q x T, ``text_padding_mask`` Q x T
            (masks: True = padding), ``image_index`` (Q,).
        """
        data = super().forward(data, training)
        images, samples = data['inputs'], data['data_samples']
        mask = self.image_padding_mask(images, samples)
        images = images.masked_fill(mask[:, None], 0)
        return dict(
            inputs=dict(images=images, image_padding_mask=mask, **self._collate_queries(samples)),
            data_samples=samples,
        )

    @staticmethod
    def image_padding_mask(images: Tensor, samples: list[DetDataSample]) -> Tensor:
        """Where a batch of pictures is padding, B x H x W."""
        height, width = images.shape[-2:]
        boxes = [s.metainfo.get('content_box') or (0, 0, *s.img_shape[1::-1]) for s in samples]
        x1, y1, x2, y2 = torch.tensor(boxes, device=images.device).T[..., None]
        rows = torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        inside_y = (rows >= y1) & (rows < y2)
        inside_x = (columns >= x1) & (columns < x2)
        return ~(inside_y[:, :, None] & inside_x[:, None])

    def _collate_queries(self, samples: list[DetDataSample]) -> dict:
        """Pad to the batch's longest query; one host-to-device copy per tensor."""
        ids = [query for s in samples for query in s.query_token_ids]
        counts = [len(s.query_token_ids) for s in samples]
        longest = max(map(len, ids))
        largest = max(map(max, ids))
        if self.vocab_size is not None and largest >= self.vocab_size:
            raise ValueError(
                f'the tokenizer gave id {largest}, the language model has {self.vocab_size} word pieces; '
                'TokenizeQueries.tokenizer and language_model must belong together (or raise vocab_size)'
            )
        padded = torch.tensor([q + [self.pad_token_id] * (longest - len(q)) for q in ids])
        lengths = torch.tensor([len(q) for q in ids])
        padding = torch.arange(longest) >= lengths[:, None]
        image_index = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts))
        return dict(
            input_ids=padded.to(self.device, non_blocking=True),
            text_padding_mask=padding.to(self.device, non_blocking=True),
            image_index=image_index.to(self.device, non_blocking=True),
        )


def split_by_image(per_query: Tensor, samples: list[DetDataSample]) -> list[Tensor]:
    """Undo the flattening: Q x ... to one K x ... tensor per image."""
    ends = list(accumulate(len(s.query_token_ids) for s in samples))
    return [per_query[start:end] for start, end in zip([0, *ends], ends, strict=False)]
