import json
import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmdet.registry import DATASETS
from mmengine.utils import is_abs

from .grounding_dataset import GroundingDataset
from .safe_pickle import load_refs, load_torch_index

_ORIGIN = {
    'refs': (
        'the refs pickle of the REFER toolkit, e.g. refs(unc).p of refcoco.zip',
        'github.com/lichengunc/refer or one of its mirrors',
    ),
    'instances': (
        'instances.json of the same archive as the refs pickle',
        'github.com/lichengunc/refer or one of its mirrors',
    ),
    'index': (
        'a TransVG index file, e.g. unc/unc_val.pth of the archive data.tar',
        'the data section of github.com/djiajunustc/TransVG',
    ),
    'pictures': (
        'the folder of the COCO train2014 pictures (13 GB)',
        'cocodataset.org/#download',
    ),
}


@DATASETS.register_module()
class ReferringExpressionDataset(GroundingDataset):
    """RefCOCO, RefCOCO+ and RefCOCOg from either of their two layouts: one sample per expression.

    ``layout='refer'`` reads the REFER toolkit's ``refs(unc|umd|google).p`` with ``instances.json``;
    ``layout='transvg'`` reads TransVG's index files, whose rows are (image, mask file, box, phrase,
    attributes) or (image, box, phrase). ``data_prefix=dict(img=...)`` is the folder of the COCO
    train2014 pictures. Pickles are read by a restricted unpickler: a file that could run code is
    refused.

    Example::

        dict(type='ReferringExpressionDataset', layout='refer', split='testA',
             data_root='data/refcoco', ann_file='refs(unc).p', data_prefix=dict(img='train2014'))
        dict(type='ReferringExpressionDataset', layout='transvg', data_root='data', name='testA',
             ann_file='unc/unc_testA.pth', data_prefix=dict(img='train2014'))

    mmdet's ``RefCocoDataset`` reads the first layout for masks only, and with the ordinary
    unpickler.

    Args:
        ann_file (str | Sequence[str]): The refs pickle, or one or more index files, which are
            joined.
        layout (str): ``'refer'`` or ``'transvg'``.
        instances_file (str): COCO style annotations that hold the boxes (refer).
        split (str | Sequence[str], optional): ``'train'``, ``'val'``, ``'test'``, ``'testA'`` or
            ``'testB'``, or several of them (refer).
        box_format (str): Of the stored boxes (transvg): ``'xywh'`` for the COCO family, ``'xyxy'``
            for ReferItGame and Flickr30k.
        truncate_boxes (bool): Cut the stored coordinates to integers, each on its own, before
            anything else. The official code does so for training targets and evaluation alike (spec
            1.1), so recipes that carry its name set it; it moves a box by up to two pixels.
        lower_case (bool): Lower the case of every expression, before transforms see it (spec 1.2).
        **kwargs: As of :class:`GroundingDataset`.

    Raises:
        FileNotFoundError: If a file is absent; the message says what it is and where it comes from.
        ValueError: If a file is not what it should be, or the split is not in it.
    """

    def __init__(
        self,
        ann_file: str | Sequence[str],
        layout: str = 'refer',
        instances_file: str = 'instances.json',
        split: str | Sequence[str] | None = None,
        box_format: str = 'xywh',
        truncate_boxes: bool = False,
        lower_case: bool = True,
        **kwargs,
    ) -> None:
        if layout not in ('refer', 'transvg'):
            raise ValueError(f"layout must be 'refer' or 'transvg', got {layout!r}")
        if box_format not in ('xywh', 'xyxy'):
            raise ValueError(f"box_format must be 'xywh' or 'xyxy', got {box_format!r}")
        if (split is None) == (layout == 'refer'):
            raise ValueError(
                "split names the part of a refs pickle: layout='refer' needs it, and with "
                "layout='transvg' the file is the split"
            )
        if layout == 'refer' and (not isinstance(ann_file, str) or box_format != 'xywh'):
            raise ValueError("layout='refer' takes one ann_file, and its boxes are always 'xywh'")
        self.layout = layout
        self.instances_file = instances_file
        self.splits = None if split is None else _as_list(split)
        self.box_format = box_format
        self.truncate_boxes = truncate_boxes
        self.lower_case = lower_case
        super().__init__(ann_file, **kwargs)

    def _join_prefix(self) -> None:
        self._ann_files = [self._under_root(f) for f in _as_list(self.ann_file)]
        self.instances_file = self._under_root(self.instances_file)
        self.ann_file = ''  # the parent joins a single path only
        super()._join_prefix()
        self.ann_file = ', '.join(self._ann_files)

    def _under_root(self, path: str) -> str:
        return path if is_abs(path) else osp.join(self.data_root or '', path)

    def load_data_list(self) -> list[dict]:
        """One record per expression, in the order of the file."""
        if self.layout == 'refer':
            return self._load_refer(self._ann_files[0])
        return [record for path in self._ann_files for record in self._load_index(path)]

    # --- REFER layout

    def _load_refer(self, path: str) -> list[dict]:
        _require((path, 'refs'), (self.instances_file, 'instances'), (self._image_dir, 'pictures'))
        refs = load_refs(path)
        if not isinstance(refs, list) or not all(isinstance(r, dict) for r in refs):
            raise ValueError(
                f'{path} is not a refs pickle: it holds {_kind(refs)} where a list of dicts '
                'belongs; give refs(unc).p, refs(umd).p or refs(google).p'
            )
        self._check_splits(path, refs)
        images, annotations = self._load_instances()
        records = []
        for i, ref in enumerate(refs):
            if ref.get('split') in self.splits:
                source = f'{path}: ref {ref.get("ref_id", f"number {i}")}'
                records.extend(self._ref_records(ref, source, images, annotations))
        return records

    def _check_splits(self, path: str, refs: list[dict]) -> None:
        available = sorted({str(r.get('split')) for r in refs})
        unknown = [s for s in self.splits if s not in available]
        if unknown:
            raise ValueError(
                f'{path} has no split {", ".join(map(repr, unknown))}; it has '
                f'{", ".join(available)}'
            )

    def _load_instances(self) -> tuple[dict, dict]:
        path = self.instances_file
        _require((path, 'instances'), (self._image_dir, 'pictures'))
        try:
            with open(path, encoding='utf-8') as f:
                content = json.load(f)
            return (
                {image['id']: image for image in content['images']},
                {ann['id']: ann for ann in content['annotations']},
            )
        except (ValueError, KeyError, TypeError) as e:
            raise ValueError(
                f'{path} is not a COCO style instances.json ({e!r}): it needs "images" and '
                '"annotations", each with ids; take it from the archive of the refs'
            ) from e

    def _ref_records(self, ref: dict, source: str, images: dict, annotations: dict) -> list[dict]:
        try:
            annotation, image = annotations[ref['ann_id']], images[ref['image_id']]
        except KeyError as e:
            raise ValueError(
                f'{source}: {e} is missing, in the ref or in {self.instances_file}; both files '
                'must come from the same archive'
            ) from e
        try:
            common = dict(
                img_path=osp.join(self._image_dir, image['file_name']),
                img_id=ref['image_id'],
                height=image['height'],
                width=image['width'],
                bboxes=[self._box(annotation['bbox'], source)],
            )
            return [
                dict(
                    common,
                    queries=[self._query(sentence['sent'], source)],
                    query_ids=[sentence['sent_id']],
                    source=f'{source}, sentence {sentence["sent_id"]}',
                )
                for sentence in ref['sentences']
            ]
        except (KeyError, TypeError) as e:
            raise ValueError(
                f'{source}: not a REFER record with its COCO annotation ({e!r}); take both '
                'files from the same archive again'
            ) from e

    # --- TransVG layout

    def _load_index(self, path: str) -> list[dict]:
        _require((path, 'index'), (self._image_dir, 'pictures'))
        rows = load_torch_index(path)
        if not isinstance(rows, list):
            raise ValueError(
                f'{path} is not a TransVG index file: it holds {_kind(rows)} where a list of '
                'tuples belongs'
            )
        return [self._row_record(row, f'{path}: row {i}', i) for i, row in enumerate(rows)]

    def _row_record(self, row: Any, source: str, index: int) -> dict:
        if not isinstance(row, (tuple, list)) or len(row) not in (3, 5):
            raise ValueError(
                f'{source} is {_kind(row)}; a TransVG row is (image, mask file, box, phrase, '
                'attributes) or (image, box, phrase)'
            )
        if len(row) == 3 and self.box_format == 'xywh':
            raise ValueError(
                f'{source} has three parts, as the Flickr30k index files, whose boxes are '
                "x1 y1 x2 y2; set box_format='xyxy'"
            )
        image, box, phrase = (row[0], row[2], row[3]) if len(row) == 5 else row
        if not isinstance(image, str):
            raise ValueError(f'{source}: {image!r} is not the name of an image')
        return dict(
            img_path=osp.join(self._image_dir, image),
            img_id=image,
            bboxes=[self._box(box, source)],
            queries=[self._query(phrase, source)],
            query_ids=[index],
            source=source,
        )

    # --- both layouts

    @property
    def _image_dir(self) -> str:
        return self.data_prefix.get('img', self.data_root or '')

    def _box(self, stored: Any, source: str) -> list[float]:
        """The stored box as x1, y1, x2, y2 in px."""
        try:
            a, b, c, d = (float(v) for v in stored)
            if self.truncate_boxes:
                a, b, c, d = (float(int(v)) for v in (a, b, c, d))
        except (TypeError, ValueError, OverflowError) as e:
            raise ValueError(
                f'{source}: {stored!r} is not a box of four numbers; correct the record'
            ) from e
        return [a, b, a + c, b + d] if self.box_format == 'xywh' else [a, b, c, d]

    def _query(self, text: Any, source: str) -> str:
        if not isinstance(text, str):
            raise ValueError(f'{source}: the expression {text!r} is not text; correct the record')
        return text.lower() if self.lower_case else text


def _as_list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _kind(value: Any) -> str:
    size = f' of {len(value)}' if hasattr(value, '__len__') else ''
    return f'a {type(value).__name__}{size}'


def _require(*files: tuple[str, str]) -> None:
    """Raise unless the first file is there, naming absent others, which are needed later, beside it:
    what they should be and where they come from."""
    absent = [
        (path, part)
        for path, part in files
        if not (osp.isdir(path or '.') if part == 'pictures' else osp.isfile(path))
    ]
    if files[0] not in absent:
        return
    raise FileNotFoundError(
        '\n'.join(
            f'{path} does not exist. It should be {_ORIGIN[part][0]}; get it from '
            f'{_ORIGIN[part][1]}, or correct data_root and the names in the dataset config'
            for path, part in absent
        )
    )
