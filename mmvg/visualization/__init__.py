from .grounding_visualizer import GroundingVisualizer, draw_grounding

__all__ = ['GroundingVisualizer', 'draw_grounding']
