import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import ImgDataPreprocessor
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from mmvg.text.relation_categories import count_categories


@MODELS.register_module()
class PhraseDataPreprocessor(DetDataPreprocessor):
    """Collate images, proposals, captions, phrases and relations for :class:`ReIR`.

    Samples may differ in the number of phrases and proposals; shorter ones are filled up with empty
    slots, and masks say what is there (True = present).

    Samples of :class:`LoadRoIFeatures` bring the features of their proposals, and a feature map, a
    picture, or neither; such pictures stay as they are until :meth:`stack` is called, as the backbone
    may never need them.

    Args:
        num_relations (int | str): Categories of relations, or the file that lists them.
        Others: see ``DetDataPreprocessor``.
    """

    def __init__(self, *args, num_relations: int | str = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.num_relations = count_categories(num_relations)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turn what the data loader gave into what :class:`ReIR` takes.

        Args:
            data (dict): ``inputs``, list of B uint8 tensors 3 x H x W, or feature maps C x h x w, and
                ``data_samples``, whose
                metainfo holds ``caption_ids``, ``query_spans``, ``phrase_ids``, ``target_ids``,
                ``word_ids`` and, where there are any, ``relations``; and which carry ``proposals``.

        Returns:
            dict: ``data_samples``, and ``inputs`` with ``images`` B x 3 x H x W, ``image_sizes`` B x 2
            (height, width), ``image_ids`` (B,), ``boxes`` B x M x 4 xyxy in pixels of the network
            input, ``labels`` B x M, ``box_present`` B x M; ``caption_ids`` B x T, 0 = padding;
            ``spans`` B x N x 2; ``phrase_ids``, ``target_ids`` (0 = padding) and ``word_ids`` (-1 =
            unknown or padding) B x N x L, ``phrase_lengths`` and ``phrase_present`` B x N;
            ``phrase_index`` 2 x Q, image and slot of the phrases that are there (counted on the host);
            ``relations`` R x 3 (image, subject, object), ``relation_targets`` R x categories.
            With cached features ``rois`` B x M x D and ``feature_source`` (file, what made it), and
            in place of ``images`` either ``feature_map`` B x C x h x w, or ``pictures``, the uint8
            tensors, or neither.

        Raises:
            ValueError: If a relation has no such category, or if cached features do not fit the
                samples or each other.
        """
        if any('feature_source' in s.proposals for s in data['data_samples']):
            data = self.cast_data(data)
            samples = data['data_samples']
            visual = _collate_features(samples, data.get('inputs'))
        else:
            data = super().forward(data, training)
            samples = data['data_samples']
            visual = dict(images=data['inputs'])
        boxes = collate_boxes(samples)
        inputs = dict(
            image_sizes=torch.tensor([s.img_shape[:2] for s in samples]),
            image_ids=_number([s.img_path for s in samples]),
            **_collate_phrases(samples),
            **self._collate_relations(samples),
        )
        device = boxes['boxes'].device
        inputs = {k: v.to(device, non_blocking=True) for k, v in inputs.items()}
        return dict(inputs=dict(**visual, **inputs, **boxes), data_samples=samples)

    def stack(self, pictures: list[Tensor]) -> Tensor:
        """Normalise pictures, uint8 3 x H x W each, and pad them to B x 3 x H x W."""
        return ImgDataPreprocessor.forward(self, dict(inputs=pictures))['inputs']

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


def collate_boxes(samples: list[DetDataSample]) -> dict[str, Tensor]:
    """``boxes`` B x M x 4, ``labels`` B x M and ``box_present`` B x M of the samples' proposals."""
    proposals = [s.proposals for s in samples]
    boxes = [p.bboxes if isinstance(p.bboxes, Tensor) else p.bboxes.tensor for p in proposals]
    count = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    padded = _pad_boxes([b.float() for b in boxes])
    labels = _pad_boxes([p.labels for p in proposals])
    present = torch.arange(padded.shape[1], device=count.device) < count[:, None]
    return dict(boxes=padded, labels=labels, box_present=present)


def _pad_boxes(rows: list[Tensor]) -> Tensor:
    """What images have per box as one tensor, with a slot at least: an image may have none."""
    padded = pad_sequence(rows, batch_first=True)
    return padded if padded.shape[1] else padded.new_zeros(len(rows), 1, *padded.shape[2:])


def _collate_features(samples: list[DetDataSample], visual: list[Tensor] | None) -> dict:
    """RoI features and what the samples have for refined boxes: maps, pictures, or nothing."""
    for sample in samples:
        _check_view(sample)
    sources = {s.proposals.feature_file: s.proposals.feature_source for s in samples}
    path, source = next(iter(sources.items()))
    for other in sources:
        if sources[other] != source:
            raise ValueError(
                f'RoI feature files {path} and {other} were made with different models; make both '
                'anew with tools/analysis_tools/extract_roi_features.py'
            )
    result = dict(
        rois=_pad_boxes([s.proposals.features.float() for s in samples]),
        feature_source=(path, source),
    )
    if visual and visual[0].is_floating_point():
        result['feature_map'] = _stack_maps(visual)
    elif visual:
        result['pictures'] = visual
    return result


def _check_view(sample: DetDataSample) -> None:
    """Raise ValueError if a sample was resized or flipped behind :class:`LoadRoIFeatures`."""
    proposals = sample.proposals
    if 'feature_source' not in proposals:
        raise ValueError(
            f'{sample.img_path} has no cached features, but others of its batch have; use '
            'LoadRoIFeatures for all data sets of a loader, or for none'
        )
    if tuple(sample.img_shape[:2]) != tuple(proposals.input_size) or sample.get('flip'):
        raise ValueError(
            f'{sample.img_path} was changed behind LoadRoIFeatures, to {tuple(sample.img_shape)} from '
            f'{tuple(proposals.input_size)}; take resizing and flips out of the pipeline'
        )


def _stack_maps(maps: list[Tensor]) -> Tensor:
    """C x h x w maps as one tensor B x C x h x w float32, each in its upper left corner.

    Its last row and column are repeated once, so that RoIAlign, which reads half a cell beyond the
    border, finds what it assumes there; features of a picture then do not depend on its neighbours.
    """
    if len({m.shape for m in maps}) == 1:
        return torch.stack(maps).float()
    height, width = (max(m.shape[d] for m in maps) for d in (1, 2))
    result = maps[0].new_zeros((len(maps), len(maps[0]), height, width), dtype=torch.float32)
    for place, m in zip(result, maps, strict=True):
        edge = F.pad(m.float(), (0, 1, 0, 1), mode='replicate')[:, :height, :width]
        place[:, : edge.shape[1], : edge.shape[2]] = edge
    return result


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
    words = max(1, *(len(s.caption_ids) for s in samples))  # there may be no word
    captions = torch.tensor([s.caption_ids + [0] * (words - len(s.caption_ids)) for s in samples])
    present = torch.arange(shape[1]) < counts[:, None]
    return dict(
        result,
        spans=spans,
        caption_ids=captions,
        phrase_lengths=_pad_phrases([[[n] for n in row] for row in lengths], (*shape[:2], 1), 0)[
            ..., 0
        ],
        phrase_present=present,
        phrase_index=present.nonzero().T,
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
