from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Tubes:
    """K tubes: boxes of the same object in F sampled frames of a video (spec vcma 1.4).

    Attributes:
        bboxes: K x F x 4 float32 xyxy in px of the frame; where nothing was found, interpolated, and
            beyond the ends of a tube its nearest box.
        rows: K x F, which detection of the frame it is; -1 where none.
        scores: K, mean link score.
    """

    bboxes: np.ndarray
    rows: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.bboxes)


def clip_of_frame(num_frames: int, num_clips: int) -> np.ndarray:
    """Which of at most ``num_clips`` clips of nearly equal length each of F frames belongs to."""
    clips = min(num_frames, num_clips)
    return np.arange(num_frames) * clips // num_frames


def pool_tubes(
    tubes: Tubes, features: Sequence[np.ndarray], num_clips: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean feature and box of every tube in every clip: K x T x D and K x T x 4.

    In a clip where a tube was not found it has the mean of its other features.

    Args:
        tubes (Tubes): Of F frames.
        features (Sequence[np.ndarray]): n_f x D per frame.
        num_clips (int): T at most.
    """
    clip = clip_of_frame(len(features), num_clips)
    found = tubes.rows >= 0
    bboxes = _clip_mean(tubes.bboxes, clip)
    stacked = np.concatenate(list(features), dtype=np.float32)
    if not found.any():
        return np.zeros((*bboxes.shape[:2], stacked.shape[-1]), np.float32), bboxes
    starts = np.append(0, np.cumsum([len(f) for f in features])[:-1])
    rows, (tube, frame) = (tubes.rows + starts)[found], np.nonzero(found)
    pooled, known = _mean_rows(
        stacked, rows, tube * bboxes.shape[1] + clip[frame], bboxes.shape[:2]
    )
    if not known.all():
        mean, _ = _mean_rows(stacked, rows, tube, (len(tubes), 1))
        pooled = np.where(known[..., None], pooled, mean)
    return pooled, bboxes


def _mean_rows(
    stacked: np.ndarray, rows: np.ndarray, groups: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the ``rows`` of each group (ascending), ``shape`` x D, and whether there are any."""
    counts = np.bincount(groups, minlength=shape[0] * shape[1])
    ones, ends = np.ones(len(rows), np.float32), np.append(0, np.cumsum(counts))
    # A sparse product: nothing of the size K x F x D is made.
    sums = csr_array((ones, rows, ends), shape=(len(counts), len(stacked))) @ stacked
    mean = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return mean.reshape(*shape, -1), counts.reshape(shape) > 0


def _clip_mean(values: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Mean over the frames of each clip, K x F x D -> K x T x D."""
    first = np.flatnonzero(np.diff(clip, prepend=-1))
    counts = np.diff(np.append(first, len(clip)))
    return (np.add.reduceat(values, first, axis=1) / counts[:, None]).astype(np.float32)


def describe_tubes(
    tubes: Tubes,
    features: Sequence[np.ndarray],
    frame_features: Sequence[np.ndarray],
    size: tuple[int, int],
    num_clips: int,
) -> dict[str, np.ndarray]:
    """What the model is told of a video of F frames.

    Args:
        features: n_f x D per frame, of its boxes; ``frame_features``: D per frame, of all of it.
        size: Height and width of the frames.

    Returns:
        dict: ``tube_feats`` K x T x (D + 5), the mean feature and, in units of the frame, centre, width,
        height and area of the mean box; ``tube_boxes`` K x T x 4, xyxy in units of the frame;
        ``frame_feats`` T x D; ``bboxes`` K x F x 4 in px.
    """
    pooled, boxes = pool_tubes(tubes, features, num_clips)
    height, width = size
    boxes = boxes / np.array([width, height, width, height], np.float32)
    centres, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    geometry = np.concatenate([centres, sides, sides.prod(-1, keepdims=True)], -1)
    clip = clip_of_frame(len(features), num_clips)
    frames = _clip_mean(np.stack(frame_features).astype(np.float32)[None], clip)[0]
    return dict(
        tube_feats=np.concatenate([pooled, geometry], -1).astype(np.float32),
        tube_boxes=boxes.astype(np.float32),
        frame_feats=frames,
        bboxes=tubes.bboxes,
    )


def best_segment(gains: np.ndarray) -> tuple[int, int]:
    """First and last index of the contiguous run with the largest sum; the earliest of equal ones.

    >>> best_segment(np.array([-2, 0.7, -0.3, 1.1, -4, 0.5]))
    (1, 3)
    """
    sums = np.append(0, np.cumsum(gains, dtype=np.float64))
    before = np.minimum.accumulate(sums[:-1])
    last = int(np.argmax(sums[1:] - before))
    first = int(np.argmin(sums[: last + 1]))
    return first, last


def fill_frames(bboxes: np.ndarray, frame_ids: np.ndarray, segment: tuple[int, int]) -> np.ndarray:
    """Boxes of sampled frames (F x 4 or K x F x 4) for every frame of [begin, end).

    Linear between sampled frames, the nearest box beyond them (spec vcma 1.8).
    """
    wanted = np.arange(*segment)
    place = np.interp(wanted, frame_ids, np.arange(len(frame_ids)))
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, len(frame_ids) - 1)
    share = (place - low)[:, None]
    filled = bboxes[..., low, :] * (1 - share) + bboxes[..., high, :] * share
    return filled.astype(np.float32)
