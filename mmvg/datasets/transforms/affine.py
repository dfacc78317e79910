"""Bookkeeping that all geometric transforms share."""

import numpy as np


def record_affine(
    results: dict, scale: tuple[float, float] = (1.0, 1.0), shift: tuple[float, float] = (0.0, 0.0)
) -> None:
    """Append ``x -> scale_x * x + shift_x`` (and y alike) to ``results['homography_matrix']``.

    The matrix (3 x 3, float64) maps pixels of the original image to pixels of the current one. It
    is mmdet's key, so mmdet's geometric transforms continue it.

    Raises:
        ValueError: If the image already lies on its canvas: ``content_box`` would no longer be
            true.
    """
    if 'content_box' in results:
        raise ValueError(
            'PlaceOnCanvas must come after every other geometric transform of the pipeline'
        )
    step = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]], [0, 0, 1]], dtype=np.float64)
    previous = results.get('homography_matrix')
    results['homography_matrix'] = step if previous is None else step @ previous
