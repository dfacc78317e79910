import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

from ..boxes import box_problem


@TRANSFORMS.register_module()
class LoadQueryAnnotations(BaseTransform):
    """Turn the ``bboxes`` of a record, one per query, into mmdet's ``gt_bboxes``.

    Comes right after :class:`LoadGroundingImage`: a record's boxes are in pixels of the original
    image, whose true size is known only then. Boxes that reach over the border stay as they are, as
    in the official code. A record without ``bboxes`` (prediction) passes unchanged.

    Required keys: queries, ori_shape, bboxes (optional). Added keys: gt_bboxes
    (``HorizontalBoxes``, K x 4 float32 xyxy px), gt_bboxes_labels (K int64, the index of the
    query).

    Raises:
        ValueError: If a box has no area, is not finite, or lies outside the image, or if the number
            of boxes is not that of the queries.
    """

    def transform(self, results: dict) -> dict:
        """Set gt_bboxes and gt_bboxes_labels."""
        if results.get('homography_matrix') is not None:
            raise ValueError(
                'LoadQueryAnnotations must come before every geometric transform: the boxes of a '
                'record are in pixels of the original image'
            )
        if results.get('bboxes') is None:
            return results
        bboxes = torch.as_tensor(results['bboxes'], dtype=torch.float32)
        num_queries = len(results['queries'])
        if bboxes.shape != (num_queries, 4):
            self._fail(
                results,
                f'boxes of shape {tuple(bboxes.shape)} for {num_queries} queries; give one '
                'box x1, y1, x2, y2 per query',
            )
        height, width = results['ori_shape']
        for i, box in enumerate(bboxes.tolist()):
            problem = box_problem(box, i, width, height)
            if problem:
                self._fail(results, f'{problem}; correct or remove the record')
        results['gt_bboxes'] = HorizontalBoxes(bboxes)
        results['gt_bboxes_labels'] = np.arange(num_queries, dtype=np.int64)
        return results

    @staticmethod
    def _fail(results: dict, problem: str) -> None:
        origin = results.get('source') or 'record'
        raise ValueError(f'{origin}, image {results.get("img_path")}: {problem}')
