from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel

from mmvg.structures.boxes import image_to_canvas


@MODELS.register_module()
class GroundingTTAModel(BaseTTAModel):
    """Test-time augmentation of a grounder: the mean of the boxes that it gives on several views.

    Every view's prediction is in pixels of the original image already (resize, flip and padding
    undone by the sample's homography), so views of any geometry can be averaged. The flipped view
    must have its direction words swapped too: use ``FlipWithText``, not mmdet's ``RandomFlip``.
    """

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[DetDataSample]]
    ) -> list[DetDataSample]:
        """Merge the views of each sample.

        Args:
            data_samples_list (Sequence[Sequence[DetDataSample]]): For each sample its predictions
                on all views, each with K boxes in query order.

        Returns:
            list[DetDataSample]: One per sample. Texts, geometry and ground truth are those of the
            first view that is not flipped (``tta_view`` says which); boxes and scores are means
            over the views.
        """
        return [self._merge(views) for views in data_samples_list]

    @staticmethod
    def _merge(views: Sequence[DetDataSample]) -> DetDataSample:
        index = next((i for i, view in enumerate(views) if not view.get('flip')), 0)
        merged = views[index].clone()
        merged.set_metainfo(dict(tta_view=index))
        pred = merged.pred_instances = merged.pred_instances.clone()
        pred.bboxes = torch.stack([v.pred_instances.bboxes for v in views]).mean(0)
        pred.scores = torch.stack([v.pred_instances.scores for v in views]).mean(0)
        pred.canvas_bboxes = image_to_canvas(pred.bboxes, merged.metainfo)
        return merged
