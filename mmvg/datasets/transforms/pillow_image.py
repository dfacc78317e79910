"""Between the BGR arrays of a pipeline and Pillow images."""

import numpy as np
from PIL import Image


def bgr_to_pillow(img: np.ndarray) -> Image.Image:
    """H x W x 3 uint8 BGR array as an RGB picture."""
    return Image.fromarray(np.ascontiguousarray(img[..., ::-1]))


def pillow_to_bgr(img: Image.Image) -> np.ndarray:
    """RGB picture as an H x W x 3 uint8 BGR array."""
    return np.ascontiguousarray(np.asarray(img)[..., ::-1])
