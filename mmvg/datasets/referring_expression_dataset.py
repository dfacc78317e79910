import json
import os.path as osp
from collections.abc import Sequence

from mmdet.registry import DATASETS

from .safe_pickle import load_refs
from .transvg_index import TransVGIndexDataset, kind_of

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
class ReferringExpressionDataset(TransVGIndexDataset):
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

    official_layout = 'refer'
    origin = _ORIGIN
    path_arguments = ('instances_file',)

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
        wrong_split = split is None if layout == 'refer' else split is not None
        if wrong_split and layout in ('refer', 'transvg'):
            raise ValueError(
                "split names the part of a refs pickle: layout='refer' needs it, and with "
                "layout='transvg' the file is the split"
            )
        if layout == 'refer' and (not isinstance(ann_file, str) or box_format != 'xywh'):
            raise ValueError("layout='refer' takes one ann_file, and its boxes are always 'xywh'")
        self.instances_file = instances_file
        self.splits = [split] if isinstance(split, str) else split
        super().__init__(
            ann_file,
            layout,
            box_format=box_format,
            truncate_boxes=truncate_boxes,
            lower_case=lower_case,
            **kwargs,
        )

    def official_records(self, path: str) -> list[dict]:
        """One record per sentence of the refs of the chosen splits."""
        self.require(
            (path, 'refs'), (self.instances_file, 'instances'), (self.image_dir, 'pictures')
        )
        refs = load_refs(path)
        if not isinstance(refs, list) or not all(isinstance(r, dict) for r in refs):
            raise ValueError(
                f'{path} is not a refs pickle: it holds {kind_of(refs)} where a list of dicts '
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
        self.require((path, 'instances'), (self.image_dir, 'pictures'))
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
                img_path=osp.join(self.image_dir, image['file_name']),
                img_id=ref['image_id'],
                height=image['height'],
                width=image['width'],
            )
            return [
                self.finish_record(
                    dict(common, query_ids=[sentence['sent_id']]),
                    annotation['bbox'],
                    sentence['sent'],
                    f'{source}, sentence {sentence["sent_id"]}',
                )
                for sentence in ref['sentences']
            ]
        except (KeyError, TypeError) as e:
            raise ValueError(
                f'{source}: not a REFER record with its COCO annotation ({e!r}); take both '
                'files from the same archive again'
            ) from e
