import os.path as osp

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from ...structures import image_to_canvas
from ..proposal_file import Proposals
from ..roi_feature_file import RoIFeatureFile, RoIFeatures
from .load_box_proposals import LoadBoxProposals
from .load_query_annotations import LoadQueryAnnotations


@TRANSFORMS.register_module()
class LoadRoIFeatures(BaseTransform):
    """Look up proposals together with their RoI features, which the frozen backbone gave once.

    Stands in place of :class:`LoadBoxProposals` (ReIR, spec 4), in one of two ways:

    - behind the transforms that load and resize the picture: the model needs the picture only once
      boxes are refined;
    - first in the pipeline, instead of all of them: no picture is decoded or drawn. With ``maps`` the
      feature map takes the picture's place, h x w x C float; without, the sample has no picture at
      all, which does for models that never refine boxes.

    The features are those of pictures that are neither flipped nor cropped; :class:`ReIR` checks that
    they come from its own backbone.

    Args:
        feature_file (str): Made by ``tools/analysis_tools/extract_roi_features.py``.
        maps (bool): Load the feature map in place of the picture.
        annotations (bool): First in the pipeline only: also do what :class:`LoadQueryAnnotations`
            does, which needs a picture. For evaluation.
        max_proposals (int): The best M of the file are kept.
        min_score (float): Boxes below are left out.
        proposal_file (str, optional): As of :class:`LoadBoxProposals`. If it is given, or the record has
            proposals, what is kept of these must be the best of those that the features are of.
        num_categories (int | str, optional): As of :class:`LoadBoxProposals`.

    Raises:
        FileNotFoundError, ValueError: If a file is absent, unfinished or damaged, has not the picture,
            or has it in another size or with other boxes.
    """

    def __init__(
        self,
        feature_file: str,
        maps: bool = False,
        annotations: bool = False,
        proposal_file: str | None = None,
        max_proposals: int = 50,
        min_score: float = 0.0,
        num_categories: int | str | None = None,
    ) -> None:
        self.file = RoIFeatureFile(feature_file)
        if maps and not self.file.has_maps:
            raise ValueError(
                f'RoI feature file {feature_file} has no feature maps; make another with --maps '
                'float16, or set maps=False and load the pictures'
            )
        self.maps = maps
        self.annotations = LoadQueryAnnotations() if annotations else None
        self.boxes = LoadBoxProposals(
            proposal_file, max_proposals, min_score, num_categories=num_categories
        )

    def transform(self, results: dict) -> dict:
        """Set proposals with features, and without a loaded picture all that its loading sets."""
        name = osp.basename(results.get('img_path') or '')
        keys = filter(None, (str(results.get('img_id')), name, osp.splitext(name)[0]))
        found = self.file.load(*keys, with_map=self.maps)
        if 'img_shape' in results:
            self._check_view(results, found)
        else:
            self._set_view(results, found)
        if found.feature_map is not None:
            results['img'] = found.feature_map.transpose(1, 2, 0)
        count = self._count_kept(results, found.proposals)
        self.boxes.check_labels(found.proposals.labels, results, self.file)
        results['proposals'] = self._as_instances(found)[:count]
        return results

    def _set_view(self, results: dict, found: RoIFeatures) -> None:
        """What loading and resizing the picture would set."""
        results.pop('img', None)  # of generated data
        size = found.proposals.size
        annotated = results.get('height'), results.get('width')
        if None not in annotated and annotated != size:
            self._fail(results, f'is of {_px(size)}, its annotation says {_px(annotated)}')
        results.update(
            ori_shape=size,
            img_shape=found.input_size,
            scale_factor=tuple(found.homography.diagonal()[:2].tolist()),
            flip=False,
            flip_direction=None,
        )
        if self.annotations is not None:
            self.annotations(results)
        results['homography_matrix'] = found.homography
        if results.get('gt_bboxes') is not None:
            moved = image_to_canvas(results['gt_bboxes'].tensor, results)
            results['gt_bboxes'] = HorizontalBoxes(moved)

    def _check_view(self, results: dict, found: RoIFeatures) -> None:
        """Raise ValueError if the picture is not the one that the features were made of."""
        matrix = (
            np.eye(3) if results.get('homography_matrix') is None else results['homography_matrix']
        )
        size = tuple(results['img_shape'][:2])
        if tuple(results['ori_shape'][:2]) != found.proposals.size:
            shown = _px(results['ori_shape']), _px(found.proposals.size)
            self._fail(results, f'has {shown[0]}, its features were made of one of {shown[1]}')
        if (
            size != found.input_size
            or results.get('flip')
            or not np.allclose(matrix, found.homography)
        ):
            self._fail(
                results,
                f'comes to the network as {_px(size)} with {np.asarray(matrix).tolist()}, its '
                f'features are of {_px(found.input_size)} with {found.homography.tolist()}; flips and '
                'crops are not possible',
            )

    def _count_kept(self, results: dict, cached: Proposals) -> int:
        """How many of the proposals, the best first, are kept.

        Raises:
            ValueError: If the live pipeline would have other ones.
        """
        if self.boxes.file is None and not isinstance(results.get('proposals'), dict):
            high = np.count_nonzero(cached.scores >= self.boxes.min_score)
            return min(high, self.boxes.max_proposals)
        live = self.boxes(dict(results))['proposals']
        for name in ('bboxes', 'scores', 'labels'):
            if not np.array_equal(live[name].numpy(), getattr(cached, name)[: len(live)]):
                self._fail(results, f'has other proposals ({name}) than its features were made of')
        return len(live)

    def _as_instances(self, found: RoIFeatures) -> InstanceData:
        fields = found.proposals._asdict()
        fields.pop('size')
        meta = dict(
            input_size=found.input_size,
            feature_file=self.file.path,
            feature_source=self.file.meta['source'],
        )
        return InstanceData(
            metainfo=meta, **{name: torch.from_numpy(array) for name, array in fields.items()}
        )

    def _fail(self, results: dict, problem: str) -> None:
        raise ValueError(
            f'RoI feature file {self.file.path}: {results.get("img_path")} {problem}; make another '
            f'file from this config ({self.file.COMMAND.format("ANOTHER")})'
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(feature_file={self.file.path!r}, maps={self.maps})'


def _px(size: tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]} px'
