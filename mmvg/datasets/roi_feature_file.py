"""RoI features of a data set, and feature maps, computed once (ReIR; spec reir 4).

The folder is that of a proposal file (:mod:`mmvg.datasets.proposal_file`) whose ``features.npy`` is
always there, and in which each picture also has its size at the network's input, its scale and, in
``maps.npy``, its feature map: all maps one after the other, float16 or float32, C x h x w each.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .growing_array import GrowingArray
from .proposal_file import ProposalFile, Proposals
from .proposal_writer import ProposalWriter


class RoIFeatures(NamedTuple):
    """What a frozen backbone makes of a picture.

    Attributes:
        proposals: With features; boxes in px of the original picture, size always known.
        input_size: (height, width) of the network input, px.
        homography: 3 x 3 float64, from px of the original to px of the network input.
        feature_map: C x h x w float16 or float32, or None.
    """

    proposals: Proposals
    input_size: tuple[int, int]
    homography: np.ndarray
    feature_map: np.ndarray | None = None


class RoIFeatureFile(ProposalFile):
    """Read a file made by ``tools/analysis_tools/extract_roi_features.py``.

    Attributes:
        meta (dict): ``source``: what the features come from, see
            :func:`mmvg.models.feature_source.describe_source`; ``maps``: type of the maps or 'none'.

    Raises:
        FileNotFoundError, ValueError: See the parent.
    """

    KIND = 'RoI feature file'
    FORMAT = 'mmvg RoI features 1'
    COMMAND = 'tools/analysis_tools/extract_roi_features.py CONFIG --out {}'
    VALUES = (
        ('input_height', '<i8'),
        ('input_width', '<i8'),
        ('scale_x', '<f8'),
        ('scale_y', '<f8'),
        ('shift_x', '<f8'),
        ('shift_y', '<f8'),
        ('map_start', '<i8'),
        ('channels', '<i8'),
        ('map_height', '<i8'),
        ('map_width', '<i8'),
    )

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        if self._features is None:
            raise ValueError(
                f'{self.KIND} {path} has no features, as none of its pictures has proposals; make '
                'it from a config whose LoadBoxProposals finds some'
            )
        self._maps = None
        if self.meta['maps'] != 'none':
            self._maps = self._map('maps.npy')
            ends = self._index['map_start'] + np.prod(
                [self._index[name] for name in ('channels', 'map_height', 'map_width')], axis=0
            )
            if ends.max() > len(self._maps):
                self._fail(f'has {len(self._maps)} map values, but its index asks for {ends.max()}')

    @property
    def has_maps(self) -> bool:
        return self._maps is not None

    def load(self, *keys: str, with_map: bool = False) -> RoIFeatures:
        """Features of the picture that goes by the first known of ``keys``, as arrays of their own.

        Raises:
            ValueError: If none of them is known, or there are no maps.
        """
        if with_map and not self.has_maps:
            raise ValueError(
                f'{self.KIND} {self.path} has no feature maps; make one with '
                f'{self.COMMAND.format("ANOTHER")} --maps float16, or load pictures instead'
            )
        row = self._row(keys)
        size = int(row['input_height']), int(row['input_width'])
        homography = np.diag([row['scale_x'], row['scale_y'], 1.0])
        homography[:2, 2] = row['shift_x'], row['shift_y']
        proposals = self.get(*keys, with_features=True)
        return RoIFeatures(proposals, size, homography, self._load_map(row) if with_map else None)

    def _load_map(self, row: np.void) -> np.ndarray:
        shape = tuple(int(row[name]) for name in ('channels', 'map_height', 'map_width'))
        start = int(row['map_start'])
        return np.array(self._maps[start : start + np.prod(shape)]).reshape(shape)


class RoIFeatureWriter(ProposalWriter):
    """Write a :class:`RoIFeatureFile`; a killed run goes on where it was.

    ``meta`` must have ``maps``: 'none', 'float16' or 'float32'.
    """

    READER = RoIFeatureFile

    def add_features(self, key: str, found: RoIFeatures) -> None:
        """Append a picture; its boxes are sorted by falling score already.

        Raises:
            ValueError: See :meth:`ProposalWriter.add`; or if the picture is shifted, sheared or
                flipped, or has or lacks a map unlike the others.
        """
        matrix = found.homography
        upright = matrix * [[1, 0, 1], [0, 1, 1], [0, 0, 1]]
        if not np.array_equal(upright, matrix) or matrix.diagonal().min() <= 0:
            raise ValueError(
                f'{self.path}: picture {key!r} was rotated, sheared or flipped: {matrix}'
            )
        if (found.feature_map is None) != (self._maps is None):
            raise ValueError(f'{self.path}: either all pictures have maps or none; {key!r} differs')
        if self._maps is not None and found.feature_map.dtype != self._maps.dtype:
            raise ValueError(
                f'{self.path}: maps must be {self._maps.dtype}; that of {key!r} is not'
            )
        for array in (found.proposals.features, found.feature_map):
            if array is not None and not np.isfinite(array).all():
                raise ValueError(
                    f'{self.path}: features of picture {key!r} are not finite as {array.dtype}; '
                    'use float32, and look at the weights of the backbone'
                )
        start = 0 if self._maps is None else self._maps.rows
        shape = (0, 0, 0) if found.feature_map is None else found.feature_map.shape
        affine = matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        if self._maps is not None:  # first: adding may commit
            self._maps.append(found.feature_map.ravel())
        self.add(
            key,
            found.proposals.bboxes,
            found.proposals.scores,
            found.proposals.labels,
            found.proposals.size,
            found.proposals.features,
            (*map(int, found.input_size), *affine, start, *shape),
        )

    def _claim(self, meta: dict) -> None:
        super()._claim(meta)
        self._maps = None
        if meta['maps'] != 'none':
            self._maps = GrowingArray(self.path / 'maps.npy', meta['maps'])

    def _arrays(self) -> list[GrowingArray]:
        return super()._arrays() + ([] if self._maps is None else [self._maps])

    def _holds(self, entry: tuple) -> bool:
        return super()._holds(entry) and (self._maps is None or _map_end(entry) <= self._maps.rows)

    def _truncate(self, rows: int) -> list[bool]:
        cut = super()._truncate(rows)
        if self._maps is not None:
            cut.append(self._maps.truncate(_map_end(self._entries[-1]) if self._entries else 0))
        return cut


def _map_end(entry: tuple) -> int:
    *_, start, channels, height, width = entry
    return start + channels * height * width
