from .boxes import canvas_to_image, canvas_to_normalised, image_to_canvas, normalised_to_canvas

__all__ = ['canvas_to_image', 'canvas_to_normalised', 'image_to_canvas', 'normalised_to_canvas']
