from .resumable_iter_train_loop import ResumableIterTrainLoop

__all__ = ['ResumableIterTrainLoop']
