"""Between the BGR arrays of a pipeline and Pillow images."""

import mmcv
import numpy as np
from PIL import Image


def bgr_to_pillow(img: np.ndarray) -> Image.Image:
    """H x W x 3 uint8 BGR array as an RGB picture."""
    return Image.fromarray(mmcv.bgr2rgb(img))


def pillow_to_bgr(img: Image.Image) -> np.ndarray:
    """RGB picture as an H x W x 3 uint8 BGR array."""
    return mmcv.rgb2bgr(np.asarray(img))
