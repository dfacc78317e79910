import hashlib

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from .pillow_image import bgr_to_pillow
from .square_view import square_view


@TRANSFORMS.register_module()
class AddTeacherView(BaseTransform):
    """Keep the picture as a CLIP teacher sees it, before anything random happens to it.

    Such a view is the same in every epoch, so the teacher's embedding of it can be cached (spec
    3.2, A11 ``original``). It belongs right after the loading of the picture.

    Args:
        size (int): Side of the view in px: that of the teacher's input.
        preproc (str): ``'letterbox'`` or ``'clip_center_crop'``, see :func:`square_view`: as the
            teacher's.
    """

    def __init__(self, size: int = 224, preproc: str = 'letterbox') -> None:
        if size < 1:
            raise ValueError(f'size must be a length in px, got {size}')
        if preproc not in ('letterbox', 'clip_center_crop'):
            raise ValueError(f"preproc must be 'letterbox' or 'clip_center_crop', got {preproc!r}")
        self.size = size
        self.preproc = preproc

    def transform(self, results: dict) -> dict:
        """Set teacher_view, size x size x 3 RGB uint8, and teacher_key, '<preproc>:<its hash>'."""
        picture = square_view(bgr_to_pillow(results['img']), self.size, self.preproc)
        results['teacher_view'] = view = np.array(picture)
        # Of the view and not of the picture: it depends on all that the embedding depends on.
        digest = hashlib.blake2b(view, digest_size=16).hexdigest()
        results['teacher_key'] = f'{self.preproc}:{digest}'
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, preproc={self.preproc!r})'
