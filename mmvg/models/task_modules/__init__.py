from .tube_linker import TubeLinker

__all__ = ['TubeLinker']
