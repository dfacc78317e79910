"""What today's torch and transformers need from the OpenMMLab releases: one file per defect."""

from .versions import check_versions

__all__ = ['apply']


def apply() -> None:
    """Mend everything; must run before ``mmdet.models`` is imported. Repeating it is harmless.

    Raises:
        ImportError: If mmengine, mmcv or mmdet is missing, or their versions do not fit.
    """
    check_versions()

    # These import mmengine, so they wait until it is known to be there.
    from . import checkpoints, multimodal, names, ops

    ops.install_fallback()
    multimodal.disable_if_broken()
    checkpoints.allow_log_history()
    names.register_package()
