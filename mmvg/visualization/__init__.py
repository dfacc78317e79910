from .grounding_visualizer import GroundingVisualizer, caption_of, draw_grounding

__all__ = ['GroundingVisualizer', 'caption_of', 'draw_grounding']
