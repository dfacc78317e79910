from collections.abc import Sequence

import numpy as np
from mmdet.registry import TASK_UTILS
from scipy.optimize import linear_sum_assignment

from ...structures.tubes import Tubes

METHODS = ('viterbi', 'hungarian')


@TASK_UTILS.register_module()
class TubeLinker:
    """Links detections of successive frames into tubes (VCMA supplement, section 2; spec vcma 1.4).

    A box and one of the next frame fit by ``alpha * cosine + (1 - alpha) * IoU``.

    ``'viterbi'`` takes the path through all frames that fits best, deletes its boxes, and repeats
    until a frame has no box left; frames without any detection are passed over. So a frame with a
    single detection allows a single tube, unless ``exhausted='skip'``. ``'hungarian'`` assigns the
    boxes of each frame to the tubes so far, one to one; tubes may begin and end anywhere.

    Args:
        method (str): ``'viterbi'`` or ``'hungarian'``.
        alpha (float): Share of the cosine similarity of features, 0 to 1.
        score_weight (float): Weight of detection scores beside link scores (viterbi); the paper's
            score has none.
        max_tubes (int): K, at most.
        min_length (int): Tubes found in fewer frames are left out, unless all are.
        min_link (float): Links below are not made (hungarian).
        max_gap (int): So many frames in a row a tube may miss (hungarian).
        exhausted (str): When all boxes of a frame are taken: ``'stop'``, as the paper, or ``'skip'``,
            further paths pass it over while ``min_length`` frames are left (viterbi).
    """

    def __init__(
        self,
        method: str = 'viterbi',
        alpha: float = 0.5,
        score_weight: float = 0.0,
        max_tubes: int = 20,
        min_length: int = 3,
        min_link: float = 0.3,
        max_gap: int = 2,
        exhausted: str = 'stop',
    ) -> None:
        if method not in METHODS:
            raise ValueError(f'method must be one of {METHODS}, not {method!r}')
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha must be between 0 and 1, not {alpha}')
        if exhausted not in ('stop', 'skip'):
            raise ValueError(f"exhausted must be 'stop' or 'skip', not {exhausted!r}")
        self.method = method
        self.alpha = alpha
        self.score_weight = score_weight
        self.max_tubes = max_tubes
        self.min_length = min_length
        self.min_link = min_link
        self.max_gap = max_gap
        self.exhausted = exhausted

    def __call__(
        self,
        bboxes: Sequence[np.ndarray],
        size: tuple[int, int],
        features: Sequence[np.ndarray] | None = None,
        scores: Sequence[np.ndarray] | None = None,
    ) -> Tubes:
        """Link the detections of F frames.

        Args:
            bboxes (Sequence[np.ndarray]): n_f x 4 xyxy per frame.
            size (tuple): Height and width of the frames. A video without any detection has one tube:
                the whole frame.
            features (Sequence[np.ndarray], optional): n_f x D per frame; without them alpha is 0.
            scores (Sequence[np.ndarray], optional): n_f per frame, with ``score_weight``.
        """
        if not bboxes:
            raise ValueError('there is no frame to link')
        if features is not None:
            starts = np.cumsum([len(f) for f in features])[:-1]
            features = np.split(_unit(np.concatenate(features, dtype=np.float32)), starts)
        there = [f for f, found in enumerate(bboxes) if len(found)]
        if not there:
            whole = np.array([0, 0, size[1], size[0]], np.float32)
            rows = np.full((1, len(bboxes)), -1)
            return Tubes(np.tile(whole, (1, len(bboxes), 1)), rows, np.zeros(1, np.float32))
        if len(there) == 1:
            rows = np.full((len(bboxes[there[0]]), len(bboxes)), -1)
            rows[:, there[0]] = np.arange(len(rows))
            links = np.zeros_like(rows, dtype=np.float64)
        else:
            link = self._viterbi if self.method == 'viterbi' else self._hungarian
            rows, links = link(bboxes, features, scores, there)
        rows, links = self._keep(rows, links)
        return Tubes(_boxes_of(rows, bboxes), rows, _mean_link(rows, links))

    def link_scores(
        self,
        bboxes: np.ndarray,
        others: np.ndarray,
        features: np.ndarray | None = None,
        other_features: np.ndarray | None = None,
    ) -> np.ndarray:
        """... x N x 4 and ... x M x 4 -> ... x N x M; features are of unit length."""
        alpha = 0.0 if features is None else self.alpha
        score = np.zeros((*bboxes.shape[:-1], others.shape[-2]))
        if alpha < 1:
            score += (1 - alpha) * _ious(bboxes, others)
        if alpha:
            score += alpha * (features @ np.swapaxes(other_features, -1, -2))
        return score

    def _viterbi(self, bboxes, features, scores, there) -> tuple[np.ndarray, np.ndarray]:
        """The best paths, each without the boxes of those before; O(K F N^2)."""
        there = np.array(there)
        counts = np.array([len(bboxes[f]) for f in there])
        padded = _pad([bboxes[f] for f in there])
        vectors = None if features is None else _pad([features[f] for f in there])
        unary = np.where(np.arange(padded.shape[1]) < counts[:, None], 0.0, -np.inf)
        if scores is not None and self.score_weight:
            unary += self.score_weight * _pad([scores[f][:, None] for f in there])[..., 0]
        frames, links = np.arange(len(there)), self._links(padded, vectors)
        rows, values = [], []
        while len(rows) < self.max_tubes:
            left = counts[frames] > len(rows)
            if not left.all():
                frames = frames[left]
                if self.exhausted == 'stop' or len(frames) < max(self.min_length, 1):
                    break
                links = self._links(padded[frames], None if vectors is None else vectors[frames])
            path = best_path(links, unary[frames])
            unary[frames, path] = -np.inf
            rows.append(np.full(len(bboxes), -1))
            values.append(np.zeros(len(bboxes)))
            rows[-1][there[frames]] = path
            values[-1][there[frames[1:]]] = links[np.arange(len(path) - 1), path[:-1], path[1:]]
        return np.stack(rows), np.stack(values)

    def _links(self, bboxes: np.ndarray, features: np.ndarray | None) -> np.ndarray:
        """F - 1 x N x N, of neighbours among F x N x 4."""
        vectors = () if features is None else (features[:-1], features[1:])
        return self.link_scores(bboxes[:-1], bboxes[1:], *vectors)

    def _hungarian(self, bboxes, features, scores, there) -> tuple[np.ndarray, np.ndarray]:
        """Assign frame by frame; the best scored tubes that result."""
        tubes, live = [], []  # {frame: (row, link)}, frames ascending; of those, which may go on
        for frame in there:
            live = [t for t in live if frame - _last(t) <= self.max_gap + 1]
            taken = {}
            if live:
                before = [(last, t[last][0]) for t in live for last in [_last(t)]]
                vectors = () if features is None else (_take(features, before), features[frame])
                fit = self.link_scores(_take(bboxes, before), bboxes[frame], *vectors)
                for i, j in zip(*linear_sum_assignment(-fit), strict=True):
                    if fit[i, j] >= self.min_link:
                        live[i][frame] = (j, fit[i, j])
                        taken[j] = i
            born = [{frame: (j, 0.0)} for j in range(len(bboxes[frame])) if j not in taken]
            tubes += born
            live += born
        rows = np.full((len(tubes), len(bboxes)), -1)
        values = np.zeros(rows.shape)
        for k, tube in enumerate(tubes):
            for frame, (row, link) in tube.items():
                rows[k, frame], values[k, frame] = row, link
        longest = np.argsort(-values.sum(1), kind='stable')
        return rows[longest], values[longest]

    def _keep(self, rows: np.ndarray, links: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        long = (rows >= 0).sum(1) >= self.min_length
        if long.any():
            rows, links = rows[long], links[long]
        return rows[: self.max_tubes], links[: self.max_tubes]


def best_path(links: np.ndarray, unary: np.ndarray) -> np.ndarray:
    """Row per frame that maximises the sum of F - 1 x N x N links and F x N; ties: lowest row."""
    total, came_from = unary[0], []
    for link, here in zip(links, unary[1:], strict=True):
        reached = total[:, None] + link
        came_from.append(reached.argmax(0))
        total = reached.max(0) + here
    path = [int(total.argmax())]
    for back in reversed(came_from):
        path.append(int(back[path[-1]]))
    return np.array(path[::-1])


def _last(tube: dict[int, tuple]) -> int:
    """The frame put in last; a search for it would be quadratic in frames."""
    return next(reversed(tube))


def _boxes_of(rows: np.ndarray, bboxes: Sequence[np.ndarray]) -> np.ndarray:
    """K x F x 4; frames without a detection of the tube are interpolated between its others."""
    stacked = np.concatenate([np.asarray(b, np.float32).reshape(-1, 4) for b in bboxes])
    starts = np.append(0, np.cumsum([len(b) for b in bboxes])[:-1])
    result = stacked[np.where(rows >= 0, rows + starts, 0)]
    frames = np.arange(len(bboxes))
    for tube, found in zip(result, rows >= 0):
        if not found.all():
            for side in range(4):
                tube[:, side] = np.interp(frames, frames[found], tube[found, side])
    return result


def _mean_link(rows: np.ndarray, links: np.ndarray) -> np.ndarray:
    return (links.sum(1) / np.maximum((rows >= 0).sum(1) - 1, 1)).astype(np.float32)


def _pad(arrays: Sequence[np.ndarray]) -> np.ndarray:
    shape = len(arrays), max(map(len, arrays)), arrays[0].shape[-1]
    result = np.zeros(shape, arrays[0].dtype)
    for row, array in zip(result, arrays):
        row[: len(array)] = array
    return result


def _take(arrays: Sequence[np.ndarray], places: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.stack([arrays[frame][row] for frame, row in places])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _ious(bboxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    a, b = bboxes[..., :, None, :], others[..., None, :, :]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clip(0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return shared / np.maximum(areas - shared, 1e-12)
