from collections.abc import Sequence

from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import BaseBoxes
from mmengine.structures import InstanceData

from .load_box_proposals import proposals_on_canvas

META_KEYS = (
    'img_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'homography_matrix',
    'content_box',
    'queries',
    'query_ids',
    'query_types',
    'query_token_ids',
    'query_spans',
    'caption',
    'sentence_id',
    'relations',
    'caption_ids',
    'phrase_ids',
    'target_ids',
    'word_ids',
    'all_bboxes',
    'dataset_name',
    'text',
    'teacher_view',
    'teacher_key',
)


@TRANSFORMS.register_module()
class PackGroundingInputs(PackDetInputs):
    """Pack a sample of K queries: ``inputs`` (3 x H x W uint8) and a ``DetDataSample``.

    Differs from its parent in the meta keys, in plain K x 4 tensors as boxes, and in ``text``,
    which is the query if K is 1 and the list of queries otherwise, so that mmdet's tools show it.
    Proposals of :class:`LoadBoxProposals` come to the network input and keep their labels.

    Args:
        meta_keys (Sequence[str]): Keys of the sample that become meta information.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        super().__init__(meta_keys=tuple(meta_keys))

    def transform(self, results: dict) -> dict:
        """Return ``dict(inputs=tensor, data_samples=DetDataSample)``."""
        queries = results['queries']
        results['text'] = queries[0] if len(queries) == 1 else list(queries)
        if isinstance(results.get('gt_bboxes'), BaseBoxes):
            results['gt_bboxes'] = results['gt_bboxes'].tensor
        if not isinstance(results.get('proposals'), InstanceData):
            return super().transform(results)
        proposals = proposals_on_canvas(results.pop('proposals'), results)
        packed = super().transform(results)
        packed['data_samples'].proposals = proposals
        return packed
