import os.path as osp
import re
from collections.abc import Sequence

import cv2
import mmcv
import numpy as np
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch.utils.data import Dataset

from mmvg.visualization.grounding_visualizer import draw_sample


@HOOKS.register_module()
class QueryVisualizationHook(Hook):
    """Draw the queries, boxes and ground truth of validation and test samples.

    mmdet's hooks name pictures after the image file, so that two expressions on one image overwrite
    each other, and need that file on disk. Here the position in the data set is part of the name,
    and generated images are taken back out of the network input.

    Args:
        draw (bool): Whether to draw at all.
        interval (int): During validation: draw the first sample of every ``interval``-th batch, the
            same ones each time, into the visualizer's backends.
        show (bool): Open a window per picture.
        wait_time (float): Seconds a window stays open.
        test_out_dir (str, optional): During testing: write ``{index:06d}_{image name}.jpg`` there,
            from every process. Without it pictures go to the visualizer's backends.
        max_images (int, optional): During testing: stop after the first ``max_images`` samples.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        test_out_dir: str | None = None,
        max_images: int | None = None,
    ) -> None:
        self.draw = draw
        self.interval = interval
        self.show = show
        self.wait_time = wait_time
        self.test_out_dir = test_out_dir
        self.max_images = max_images
        self._seen = 0

    def check_data(self, dataset: Dataset) -> None:
        """Raise ValueError if samples to be drawn are videos; a training asks before it starts."""
        known = self.draw and hasattr(dataset, 'get_data_info')
        if known and 'video_id' in dataset.get_data_info(0):
            raise ValueError(
                'QueryVisualizationHook draws pictures, but the data set has videos; set draw=False, and '
                'see answers with tools/infer.py --videos'
            )

    def before_test_epoch(self, runner: Runner) -> None:
        """Count samples from the start of the data set."""
        self.check_data(runner.test_dataloader.dataset)
        self._seen = 0

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        """Draw the first sample of the batch, every ``interval`` batches."""
        if not self.draw or batch_idx % self.interval:
            return
        self._add_to_visualizer(f'val_{batch_idx:06d}', data_batch, 0, outputs[0], step=runner.iter)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        """Draw every sample of the batch, up to ``max_images`` samples of the data set."""
        if not self.draw:
            return
        rank, world_size = get_dist_info()
        num_samples = len(runner.test_dataloader.dataset)
        limit = min(num_samples, self.max_images) if self.max_images is not None else num_samples
        for i, sample in enumerate(outputs):
            # mmengine's DefaultSampler deals samples out in turn and repeats some at the end.
            index = self._seen * world_size + rank
            self._seen += 1
            if index >= limit:
                return
            if self.test_out_dir is not None:
                picture = draw_sample(_original_image(data_batch, i, sample), sample)
                path = osp.join(self.test_out_dir, f'{index:06d}_{_stem(sample)}.jpg')
                mmcv.imwrite(picture[..., ::-1], path)
            if self.show or self.test_out_dir is None:
                self._add_to_visualizer(f'test_{index:06d}', data_batch, i, sample, step=index)

    def _add_to_visualizer(
        self, name: str, data_batch: dict, i: int, sample: DetDataSample, step: int
    ) -> None:
        Visualizer.get_current_instance().add_datasample(
            f'{name}_{_stem(sample)}',
            _original_image(data_batch, i, sample),
            sample,
            show=self.show,
            wait_time=self.wait_time,
            step=step,
        )


def _stem(sample: DetDataSample) -> str:
    name = osp.basename(sample.get('img_path') or str(sample.get('img_id', 'image')))
    return re.sub(r'[^\w.-]+', '-', osp.splitext(name)[0])


def _original_image(data_batch: dict, i: int, sample: DetDataSample) -> np.ndarray:
    """The original picture of sample ``i``, H x W x 3 uint8 RGB.

    Read from ``img_path`` when that file exists, otherwise mapped back from the uint8 network
    input.
    """
    path = sample.get('img_path')
    height, width = sample.ori_shape
    if path and osp.isfile(path):
        image = mmcv.imread(path, channel_order='rgb')
        # The sizes differ where the pipeline's loader ignores the EXIF orientation.
        if image.shape[:2] == (height, width):
            return image
    inputs = data_batch['inputs']
    # Under test-time augmentation inputs[view][i]; the merged sample carries one view's geometry.
    views = inputs if isinstance(inputs[0], (list, tuple)) else [inputs]
    view = sample.get('tta_view', 0)
    canvas = views[view][i].permute(1, 2, 0).cpu().numpy()
    matrix = np.asarray(sample.get('homography_matrix', np.eye(3)), dtype=np.float64)
    # The homography maps edges, OpenCV maps centres of pixels: half a pixel apart.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    back = np.linalg.inv(half) @ np.linalg.inv(matrix) @ half
    original = cv2.warpPerspective(canvas, back, (width, height))
    return np.ascontiguousarray(original[..., ::-1])
