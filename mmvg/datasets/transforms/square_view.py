from collections.abc import Sequence

from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

# CLIP's mean colour in RGB, which its normalisation turns into zeros.
CLIP_MEAN_COLOUR = (123, 117, 104)


def square_view(
    image: Image.Image | Tensor,
    size: int,
    preproc: str = 'letterbox',
    fill: Sequence[float] = CLIP_MEAN_COLOUR,
    interpolation: str = 'bicubic',
) -> Image.Image | Tensor:
    """The square of a picture that CLIP sees (spec 3.2, A12); the aspect ratio is kept.

    Args:
        image: Picture, or tensor ... x 3 x H x W (values may overshoot their range).
        size (int): Side in px.
        preproc (str): ``'letterbox'``: the longer side is resized to ``size``, the rest filled on
            both sides; ``'clip_center_crop'``: the shorter side is, and the centre cut out, as in
            CLIP's own preprocessing.
        fill (Sequence[float]): Colour in the range of ``image``; integers for a picture.
        interpolation (str): ``'bicubic'`` or ``'bilinear'``; antialiased.
    """
    mode = InterpolationMode(interpolation)
    if preproc == 'clip_center_crop':
        image = functional.resize(image, [size], interpolation=mode, antialias=True)
        return functional.center_crop(image, [size, size])
    height, width = functional.get_size(image)
    ratio = size / max(height, width)
    # A side of less than half a pixel would round to nothing.
    height, width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    image = functional.resize(image, [height, width], interpolation=mode, antialias=True)
    left, top = (size - width) // 2, (size - height) // 2
    border = [left, top, size - width - left, size - height - top]
    return functional.pad(image, border, fill=list(fill)) if any(border) else image
