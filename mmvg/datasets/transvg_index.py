import os.path as osp
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from mmengine.utils import is_abs

from .grounding_dataset import GroundingDataset
from .record_checks import malformed
from .safe_pickle import load_torch_index


class TransVGIndexDataset(GroundingDataset):
    """Base of the data sets that exist in an official layout and as TransVG index files (spec 1.1).

    An index file holds one row per expression: (image, mask file, box, phrase, attributes), or
    (image, box, phrase) for Flickr30k. Mask file and attributes are not used. Files are read by a
    restricted unpickler, and rows become records one at a time.

    Subclasses set ``official_layout``, ``row_parts``, ``origin`` and ``path_arguments``, and
    implement :meth:`official_records`.

    Args:
        ann_file (str | Sequence[str]): The main file of the official layout, or one or more index
            files, which are joined.
        layout (str): That of the files: the official one or ``'transvg'``.
        box_format (str): Of the stored boxes: ``'xywh'`` or ``'xyxy'``.
        box_shift (Sequence[float]): Added to x1, y1, x2, y2 in the end, in px.
        truncate_boxes (bool): Cut the stored coordinates to integers, each on its own, before
            anything else, as the released code does.
        lower_case (bool): Lower the case of every expression, before transforms see it (spec 1.2).
        **kwargs: As of :class:`GroundingDataset`.

    Raises:
        FileNotFoundError: If a file is absent; the message says what it is and where it comes from.
        ValueError: If a file is not what it should be.
    """

    official_layout = ''
    row_parts: tuple[int, ...] = (3, 5)
    # What a file or folder should be, and where it is found.
    origin: dict[str, tuple[str, str]] = {}
    # Attributes other than ann_file that are paths below data_root.
    path_arguments: tuple[str, ...] = ()

    def __init__(
        self,
        ann_file: str | Sequence[str],
        layout: str,
        box_format: str = 'xyxy',
        box_shift: Sequence[float] = (0, 0, 0, 0),
        truncate_boxes: bool = False,
        lower_case: bool = True,
        **kwargs,
    ) -> None:
        if layout not in (self.official_layout, 'transvg'):
            raise ValueError(
                f"layout must be {self.official_layout!r} or 'transvg', got {layout!r}"
            )
        if box_format not in ('xywh', 'xyxy'):
            raise ValueError(f"box_format must be 'xywh' or 'xyxy', got {box_format!r}")
        if layout != 'transvg' and not isinstance(ann_file, str):
            raise ValueError(f'layout={layout!r} takes one ann_file, got {ann_file!r}')
        self.layout = layout
        self.box_format = box_format
        self.box_shift = tuple(box_shift)
        self.truncate_boxes = truncate_boxes
        self.lower_case = lower_case
        super().__init__(ann_file, **kwargs)

    def _join_prefix(self) -> None:
        self._ann_files = [self._under_root(f) for f in _as_list(self.ann_file)]
        for name in self.path_arguments:
            if getattr(self, name) is not None:
                setattr(self, name, self._under_root(getattr(self, name)))
        self.ann_file = ''  # the parent joins a single path only
        super()._join_prefix()
        self.ann_file = ', '.join(self._ann_files)

    def _under_root(self, path: str) -> str:
        return path if is_abs(path) else osp.join(self.data_root or '', path)

    def load_data_list(self) -> Iterable[dict]:
        """One record per expression, in the order of the file."""
        if self.layout == 'transvg':
            for path in self._ann_files:
                self.require((path, 'index'), (self.image_dir, 'pictures'))
            return chain.from_iterable(map(self._index_records, self._ann_files))
        return self.official_records(self._ann_files[0])

    def official_records(self, path: str) -> Iterable[dict]:
        """The records of the official layout, of which ``path`` is the main file."""
        raise NotImplementedError

    def _index_records(self, path: str) -> Iterator[dict]:
        rows = load_torch_index(path)
        if not isinstance(rows, list):
            raise ValueError(
                f'{path} is not a TransVG index file: it holds {kind_of(rows)} where a list of '
                'tuples belongs'
            )
        for i, row in enumerate(rows):
            yield self._row_record(row, f'{path}: row {i}', i)

    def _row_record(self, row: Any, source: str, index: int) -> dict:
        if not isinstance(row, (tuple, list)) or len(row) not in (3, 5):
            raise ValueError(
                f'{source} is {kind_of(row)}; a TransVG row is (image, mask file, box, phrase, '
                'attributes) or (image, box, phrase)'
            )
        if len(row) not in self.row_parts:
            raise ValueError(
                f'{source} has {len(row)} parts, but rows of {type(self).__name__} have '
                f'{self.row_parts[0]}: the file belongs to another data set; give the right file, '
                'or choose ReferringExpressionDataset, ReferItGameDataset or '
                'Flickr30kEntitiesDataset after the file'
            )
        if len(row) == 3 and self.box_format == 'xywh':
            raise ValueError(
                f'{source} has three parts, as the Flickr30k index files, whose boxes are '
                "x1 y1 x2 y2; set box_format='xyxy'"
            )
        image, box, phrase = (row[0], row[2], row[3]) if len(row) == 5 else row
        if not isinstance(image, str):
            raise ValueError(f'{source}: {image!r} is not the name of an image')
        common = dict(img_path=osp.join(self.image_dir, image), img_id=image, query_ids=[index])
        return self.finish_record(common, box, phrase, source)

    # --- for every layout

    def finish_record(self, common: dict, box: Any, phrase: Any, source: str) -> dict:
        """``common`` with box and query, or what is wrong with them (``invalid`` decides then)."""
        try:
            answer = dict(bboxes=[self.parse_box(box)], queries=[self.parse_query(phrase)])
        except ValueError as error:
            return malformed(source, error)
        return dict(common, **answer, source=source)

    def parse_box(self, stored: Any) -> list[float]:
        """The stored box as x1, y1, x2, y2 in px."""
        try:
            a, b, c, d = (float(v) for v in stored)
            if self.truncate_boxes:
                a, b, c, d = (float(int(v)) for v in (a, b, c, d))
        except (TypeError, ValueError, OverflowError) as e:
            raise ValueError(f'{stored!r} is not a box of four numbers') from e
        if self.box_format == 'xywh':
            c, d = a + c, b + d
        left, top, right, bottom = self.box_shift
        return [a + left, b + top, c + right, d + bottom]

    def parse_query(self, text: Any) -> str:
        """The expression, in lower case if asked for."""
        if not isinstance(text, str):
            raise ValueError(f'the expression {text!r} is not text')
        return text.lower() if self.lower_case else text

    def require(self, *files: tuple[str, str]) -> None:
        """Raise unless the first path exists, naming others, which are needed later, beside it.

        Args:
            *files: (path, key of ``origin``); ``'pictures'`` and keys that end in ``'folder'`` are
                folders.
        """
        absent = [
            (path, part)
            for path, part in files
            if not (osp.isdir(path or '.') if _is_folder(part) else osp.isfile(path))
        ]
        if files[0] not in absent:
            return
        raise FileNotFoundError(
            '\n'.join(
                f'{path} does not exist. It should be {self.origin[part][0]}; get it from '
                f'{self.origin[part][1]}, or correct data_root and the names in the dataset config'
                for path, part in absent
            )
        )


def _is_folder(part: str) -> bool:
    return part == 'pictures' or part.endswith('folder')


def kind_of(value: Any) -> str:
    """Type and size of a value, for messages."""
    size = f' of {len(value)}' if hasattr(value, '__len__') else ''
    return f'a {type(value).__name__}{size}'


def _as_list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
