from .boxes import (
    apply_deltas,
    canvas_to_image,
    canvas_to_normalised,
    clip_to_size,
    describe_places,
    encode_deltas,
    image_to_canvas,
    normalised_to_canvas,
)

__all__ = [
    'apply_deltas',
    'canvas_to_image',
    'canvas_to_normalised',
    'clip_to_size',
    'describe_places',
    'encode_deltas',
    'image_to_canvas',
    'normalised_to_canvas',
]
