from typing import NamedTuple

import numpy as np


class Regions(NamedTuple):
    """Boxes of one video frame, the best first, with what they look like (spec vcma 1.4).

    Attributes:
        bboxes: n x 4 float32 xyxy, px of the original frame.
        scores: n float32.
        labels: n int64, class of the detector.
        features: n x D float32, of unit length.
        frame_feature: D float32, the same of the whole frame.
        size: (height, width) of the frame, px.
    """

    bboxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    frame_feature: np.ndarray
    size: tuple[int, int]
