import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from torch import Tensor


@MODELS.register_module()
class PhraseDataPreprocessor(DetDataPreprocessor):
    """Collate images, proposals, captions, phrases and relations for :class:`ReIR`.

    Samples may differ in the number of phrases and proposals; shorter ones are filled up with empty
    slots, and masks say what is there (True = present).

    Args:
        num_relations (int): Categories of relations.
        Others: see ``DetDataPreprocessor``.
    """

    def __init__(self, *args, num_relations: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.num_relations = num_relations

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turn what the data loader gave into what :class:`ReIR` takes.

        Args:
            data (dict): ``inputs``, list of B uint8 tensors 3 x H x W, and ``data_samples``, whose
                metainfo holds ``caption_ids``, ``query_spans``, ``phrase_ids``, ``target_ids``,
                ``word_ids`` and, where there are any, ``relations``; and which carry ``proposals``.

        Returns:
            dict: ``data_samples``, and ``inputs`` with ``images`` B x 3 x H x W, ``image_sizes`` B x 2
            (height, width), ``image_ids`` (B,), ``boxes`` B x M x 4 xyxy in pixels of the network
            input, ``labels`` B x M, ``box_present`` B x M; ``caption_ids`` B x T, 0 = padding;
            ``spans`` B x N x 2; ``phrase_ids``, ``target_ids`` (0 = padding) and ``word_ids`` (-1 =
            unknown or padding) B x N x L, ``phrase_lengths`` and ``phrase_present`` B x N;
            ``relations`` R x 3 (image, subject, object), ``relation_targets`` R x categories.
        """
        data = super().forward(data, training)
        samples = data['data_samples']
        images = data['inputs']
        inputs = dict(
            image_sizes=torch.tensor([s.img_shape[:2] for s in samples]),
            image_ids=_number([s.img_path for s in samples]),
            **_collate_phrases(samples),
            **self._collate_relations(samples),
        )
        inputs = {k: v.to(images.device, non_blocking=True) for k, v in inputs.items()}
        return dict(
            inputs=dict(images=images, **inputs, **_collate_boxes(samples)), data_samples=samples
        )

    def _collate_relations(self, samples: list[DetDataSample]) -> dict[str, Tensor]:
        """Every relation with the categories it has; several, one, or none."""
        rows, categories = [], []
        for image, sample in enumerate(samples):
            for subject, target, _, listed in sample.get('relations', ()):
                rows.append((image, subject, target))
                categories.append(listed)
        targets = torch.zeros(len(rows), self.num_relations)
        for row, listed in zip(targets, categories, strict=True):
            if listed and max(listed) >= self.num_relations:
                raise ValueError(
                    f'a relation has category {max(listed)}, the model has {self.num_relations}; '
                    'num_relations must be that of the relation file'
                )
            row[listed] = 1
        return dict(
            relations=torch.tensor(rows, dtype=torch.long).view(-1, 3), relation_targets=targets
        )


def _collate_boxes(samples: list[DetDataSample]) -> dict[str, Tensor]:
    proposals = [s.proposals for s in samples]
    boxes = [p.bboxes if isinstance(p.bboxes, Tensor) else p.bboxes.tensor for p in proposals]
    count = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    most = max(int(max(map(len, boxes))), 1)  # an image may have none
    pad = torch.nn.utils.rnn.pad_sequence
    padded = pad([b.float() for b in boxes], batch_first=True)
    labels = pad([p.labels for p in proposals], batch_first=True)
    if not padded.shape[1]:
        padded, labels = padded.new_zeros(len(boxes), 1, 4), labels.new_zeros(len(boxes), 1)
    present = torch.arange(most, device=count.device) < count[:, None]
    return dict(boxes=padded, labels=labels, box_present=present)


def _collate_phrases(samples: list[DetDataSample]) -> dict[str, Tensor]:
    counts = torch.tensor([len(s.queries) for s in samples])
    lengths = [[len(p) for p in s.phrase_ids] for s in samples]
    longest = max(max(n, default=0) for n in lengths)
    shape = len(samples), max(int(counts.max()), 1), max(longest, 1)  # there may be no phrase
    result = {
        name: _pad_phrases([s.metainfo[name] for s in samples], shape, filling)
        for name, filling in (('phrase_ids', 0), ('target_ids', 0), ('word_ids', -1))
    }
    spans = _pad_phrases([s.query_spans for s in samples], (*shape[:2], 2), 0)
    words = max(len(s.caption_ids) for s in samples)
    captions = torch.tensor([s.caption_ids + [0] * (words - len(s.caption_ids)) for s in samples])
    return dict(
        result,
        spans=spans,
        caption_ids=captions,
        phrase_lengths=_pad_phrases([[[n] for n in row] for row in lengths], (*shape[:2], 1), 0)[
            ..., 0
        ],
        phrase_present=torch.arange(shape[1]) < counts[:, None],
    )


def _pad_phrases(values: list, shape: tuple[int, int, int], filling: int) -> Tensor:
    """Nested lists image, phrase, word as one tensor, filled up with one host-side copy."""
    _, phrases, words = shape
    empty = [filling] * words
    rows = [
        [[*p, *empty[len(p) :]] for p in image] + [empty] * (phrases - len(image))
        for image in values
    ]
    return torch.tensor(rows, dtype=torch.long).view(shape)


def _number(names: list[str]) -> Tensor:
    """Equal numbers for equal names."""
    known = {}
    return torch.tensor([known.setdefault(name, len(known)) for name in names])
