"""How well a tube fits the true one, by the rules of several published evaluations."""

from dataclasses import dataclass

import numpy as np

PROTOCOLS = ('native', 'tubedetr', 'stcat', 'hcstvg_official')


@dataclass(frozen=True)
class TrueTube:
    """What a sentence means, as a protocol sees it.

    Attributes:
        span (tuple[int, int]): Frames [b, e).
        bboxes (np.ndarray): (e - b) x 4 xyxy px, nan rows where the object has no box.
        grid (np.ndarray, optional): The only frames whose boxes count, ascending; all if None.
    """

    span: tuple[int, int]
    bboxes: np.ndarray
    grid: np.ndarray | None = None

    @property
    def counted(self) -> np.ndarray:
        """Which of the frames of the span count; e - b booleans."""
        frames = np.arange(*self.span)
        return np.ones(len(frames), bool) if self.grid is None else np.isin(frames, self.grid)

    def ious(self, bboxes: np.ndarray, segment: tuple[int, int]) -> np.ndarray:
        """IoU in each frame of the span with boxes that exist for each frame of the segment.

        Args:
            bboxes (np.ndarray): ... x L x 4, L the length of the segment.

        Returns:
            np.ndarray: ... x (e - b); 0 where either has no box or no area (spec 2.5, quirks 8, 9).
        """
        begin, end = (frame - segment[0] for frame in self.span)
        return _ious(bboxes[..., begin:end, :], self.bboxes)

    def rate(self, ious: np.ndarray, span: tuple[int, int]) -> tuple[float, float, float]:
        """tIoU, vIoU and spatial IoU of a tube in frames [s, t) with ``ious`` from :meth:`ious`."""
        (b, e), (s, t) = self.span, span
        first, last = max(b, s), min(e, t)
        weighted = ious * self.counted
        inside = weighted[first - b : max(last, first) - b].sum()
        hull = min(b, s), max(e, t)
        tiou = max(0, last - first) / (hull[1] - hull[0])
        return tiou, inside / max(1, self._count(*hull)), self.spatial(ious)

    def spatial(self, ious: np.ndarray) -> np.ndarray:
        """Mean IoU over the frames of the span that count, ``ious`` being ... x (e - b)."""
        counted = self.counted
        return (ious * counted).sum(-1) / max(1, counted.sum())

    def _count(self, begin: int, end: int) -> int:
        if self.grid is None:
            return end - begin
        return int(np.subtract(*np.searchsorted(self.grid, [end, begin])))


def true_tube(
    protocol: str,
    dataset: str,
    tube: dict,
    segment: tuple[int, int],
    frame_ids: np.ndarray | None = None,
) -> TrueTube:
    """The truth as the evaluation of ``protocol`` on ``dataset`` has it.

    Args:
        protocol (str): One of :data:`PROTOCOLS`.
        dataset (str): ``'vidstg'`` or ``'hcstvg'``.
        tube (dict): ``span`` and ``bboxes`` as annotated, the span half-open.
        segment (tuple[int, int]): Frames of the input, half-open.
        frame_ids (np.ndarray, optional): Sampled frames, for ``'tubedetr'``.
    """
    (begin, end), bboxes = tube['span'], np.asarray(tube['bboxes'], np.float64)
    if protocol == 'stcat':  # quirks 3 and 4: a last frame is lost to half-open counting
        end = end - 1 if dataset == 'hcstvg' else min(end, segment[1] - 1)
        end = max(end, begin + 1)
    if protocol == 'tubedetr':
        if dataset == 'hcstvg':  # quirk 5: a first frame counted from 1 is taken as counted from 0
            begin, end = begin + 1, min(end + 1, segment[1])
        return TrueTube((begin, end), bboxes[: end - begin], np.sort(frame_ids))
    return TrueTube((begin, end), bboxes[: end - begin])


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of aligned boxes, nan boxes and boxes without area giving 0."""
    corner = np.maximum(a[..., :2], b[..., :2])
    sides = np.minimum(a[..., 2:], b[..., 2:]) - corner
    shared = sides.clip(0).prod(-1)
    union = _area(a) + _area(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=(shared > 0) & (union > 0))


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)
