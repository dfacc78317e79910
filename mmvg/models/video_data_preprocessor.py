import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.model import BaseDataPreprocessor
from torch import Tensor


@MODELS.register_module()
class VideoDataPreprocessor(BaseDataPreprocessor):
    """Collate tubes and parsed sentences for :class:`VCMA`.

    Videos may differ in the number of tubes and clips, sentences in that of entities and relations;
    masks say what is there (True = present).
    """

    _warned = False

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turn what the data loader gave into what :class:`VCMA` takes.

        Args:
            data (dict): As :class:`PackVideoInputs` gives it, collated by ``pseudo_collate``: lists of
                B tensors (or of frames) and B data samples.

        Returns:
            dict: ``data_samples``, and ``inputs`` with ``video`` (see :mod:`tube_networks`; or frames) and
            ``text``: ``entity_present`` Q x E; ``subject``, ``predicate``, ``object`` and
            ``relation_present`` Q x R, where an object of E is none; ``target`` and ``video_index`` Q;
            ``not_negative`` Q x Q, pairs of sentences that may be true of each other's video.
        """
        data = self.cast_data(data)
        samples, given = data['data_samples'], data['inputs']
        video = given if 'frames' in given else collate_videos(given)
        text = _collate_sentences(samples)
        if training:
            self._warn_without_negatives(text['not_negative'])
        text = {k: v.to(self.device) for k, v in text.items()}
        return dict(inputs=dict(video=video, text=text), data_samples=samples)

    def _warn_without_negatives(self, not_negative: Tensor) -> None:
        """Once: the contrast, all that learns in the warm-up, is 0 then."""
        if not self._warned and not_negative.sum() == not_negative.numel() - len(not_negative):
            self._warned = True
            MMLogger.get_current_instance().warning(
                f'a batch has no two sentences that tell videos apart (it has {len(not_negative)}); the '
                'contrast learns nothing from such batches: increase train_dataloader.batch_size'
            )


def collate_videos(given: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """Lists of B tensors as :func:`describe_tubes` gives them -> padded, with masks."""
    tubes, frames = given['tube_feats'], given['frame_feats']
    shape = max(len(t) for t in tubes), max(len(f) for f in frames)
    result = {k: _pad(given[k], shape) for k in ('tube_feats', 'tube_boxes')}
    result['frame_feats'] = _pad(frames, shape[1:])
    for name, lengths, most in (
        ('tube_present', map(len, tubes), shape[0]),
        ('clip_present', map(len, frames), shape[1]),
    ):
        lengths = torch.tensor(list(lengths), device=tubes[0].device)
        result[name] = torch.arange(most, device=lengths.device) < lengths[:, None]
    return result


def _pad(tensors: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Stack, with zeros up to ``shape`` in the leading dimensions."""
    result = tensors[0].new_zeros(len(tensors), *shape, *tensors[0].shape[len(shape) :])
    for row, tensor in zip(result, tensors):
        row[tuple(slice(n) for n in tensor.shape[: len(shape)])] = tensor
    return result


def _collate_sentences(samples: list[DetDataSample]) -> dict[str, Tensor]:
    parsed = [sentence for sample in samples for sentence in sample.parsed]
    counts = [len(sentence['entities']) for sentence in parsed]
    entities = max(counts)
    links = [sentence['relations'] for sentence in parsed]
    relations = max(max(map(len, links)), 1)
    rows = [
        [(s, p, entities if o < 0 else o) for s, p, o in sentence]
        + [(0, 0, entities)] * (relations - len(sentence))
        for sentence in links
    ]
    subject, predicate, target = torch.tensor(rows).view(-1, relations, 3).unbind(-1)
    video = torch.tensor([i for i, s in enumerate(samples) for _ in s.parsed])
    # Whatever the segments: one video shows the same things throughout.
    same_video = _same([s.video_id for s in samples])[video][:, video]
    same = same_video | _same([sentence['meaning'] for sentence in parsed])
    return dict(
        entity_present=torch.arange(entities) < torch.tensor(counts)[:, None],
        subject=subject,
        predicate=predicate,
        object=target,
        relation_present=torch.arange(relations) < torch.tensor([len(x) for x in links])[:, None],
        target=torch.tensor([sentence['target'] for sentence in parsed]),
        video_index=video,
        not_negative=same & ~torch.eye(len(parsed), dtype=torch.bool),
    )


def _same(keys: list) -> Tensor:
    """N x N: which of the keys are equal."""
    known = {}
    numbers = torch.tensor([known.setdefault(key, len(known)) for key in keys])
    return numbers[:, None] == numbers
