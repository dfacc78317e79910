from .group_optim_wrapper_constructor import GroupOptimWrapperConstructor

__all__ = ['GroupOptimWrapperConstructor']
