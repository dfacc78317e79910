import json
import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any

from mmdet.registry import DATASETS

from .transvg_index import TransVGIndexDataset, kind_of

_FROM = 'exp-referit/data of github.com/ronghanghu/text_objseg'
_ORIGIN = {
    'queries': (
        'referit_query_SPLIT.json (region -> expressions), or RealGames.txt of the ReferItGame '
        'release with an image_list',
        _FROM,
    ),
    'boxes': ('referit_bbox.json (region -> x1 y1 x2 y2)', _FROM),
    'sizes': ('referit_imsize.json (picture -> width and height)', _FROM),
    'image list': ('referit_SPLIT_imlist.txt, one picture number per line', _FROM),
    'index': (
        'a TransVG index file, e.g. referit/referit_val.pth of the archive data.tar',
        'the data section of github.com/djiajunustc/TransVG',
    ),
    'pictures': (
        'the folder of the SAIAPR TC-12 pictures, with all of its pictures side by side',
        'the ReferItGame release or a mirror of it',
    ),
}


@DATASETS.register_module()
class ReferItGameDataset(TransVGIndexDataset):
    """ReferItGame (RefCLEF) from either of its two layouts: one sample per expression.

    ``layout='original'`` reads the JSON files region -> expressions and region -> box that every
    later work starts from, or the game log ``RealGames.txt``, whose lines are
    ``REGION.jpg~expression~x~y``, with a list of the pictures of the split. ``layout='transvg'``
    reads TransVG's index files. Region 9739_7 lies in picture 9739.jpg.

    Example::

        dict(type='ReferItGameDataset', split='val', data_root='data/referit',
             image_list='referit_val_imlist.txt', data_prefix=dict(img='images'))
        dict(type='ReferItGameDataset', layout='transvg', data_root='data',
             ann_file='referit/referit_val.pth', data_prefix=dict(img='referit/images'))

    Args:
        ann_file (str | Sequence[str], optional): Expressions, or index files. Default:
            ``referit_query_SPLIT.json`` or ``referit_SPLIT.pth``.
        layout (str): ``'original'`` or ``'transvg'``.
        split (str, optional): Completes the default of ``ann_file``; nothing else.
        bbox_file (str): Region -> box (original).
        imsize_file (str, optional): Picture -> width and height (original). Without it pictures of
            another size than the annotated one go unnoticed.
        image_list (str, optional): Keep the regions of these pictures only (original).
        box_origin (str): ``'stored'`` takes the numbers of the file, as the released code does:
            they are indices of the first and the last pixel, from 0. ``'exact'`` adds 1 to x2 and
            y2, so that the box covers the last pixel too.
        truncate_boxes (bool): As of the released code; stored boxes are integers, so without
            effect on the original files.
        **kwargs: As of :class:`TransVGIndexDataset`.

    Raises:
        FileNotFoundError: If a file is absent; the message says what it is and where it comes from.
        ValueError: If a file is not what it should be, or files are of different splits.
    """

    official_layout = 'original'
    row_parts = (5,)
    origin = _ORIGIN
    path_arguments = ('bbox_file', 'imsize_file', 'image_list')

    def __init__(
        self,
        ann_file: str | Sequence[str] | None = None,
        layout: str = 'original',
        split: str | None = None,
        bbox_file: str = 'referit_bbox.json',
        imsize_file: str | None = 'referit_imsize.json',
        image_list: str | None = None,
        box_origin: str = 'stored',
        **kwargs,
    ) -> None:
        if box_origin not in ('stored', 'exact'):
            raise ValueError(f"box_origin must be 'stored' or 'exact', got {box_origin!r}")
        if (ann_file is None) == (split is None):
            raise ValueError(
                f'give either split or ann_file, got split={split!r} and ann_file={ann_file!r}: '
                'split stands for the usual file name of that split'
            )
        if layout == 'transvg' and image_list is not None:
            raise ValueError("image_list belongs to layout='original'; an index file is the split")
        if ann_file is None:
            ann_file = (
                f'referit_{split}.pth' if layout == 'transvg' else f'referit_query_{split}.json'
            )
        self.bbox_file = bbox_file
        self.imsize_file = imsize_file
        self.image_list = image_list
        shift = (0, 0, 1, 1) if box_origin == 'exact' else (0, 0, 0, 0)
        super().__init__(ann_file, layout, box_format='xyxy', box_shift=shift, **kwargs)

    def official_records(self, path: str) -> Iterator[dict]:
        """One record per expression, in the order of the file of expressions."""
        needed = [(path, 'queries'), (self.bbox_file, 'boxes')]
        needed += [(self.imsize_file, 'sizes')] if self.imsize_file else []
        needed += [(self.image_list, 'image list')] if self.image_list else []
        needed += [(self.image_dir, 'pictures')]
        for i in range(len(needed) - 1):  # of pictures, the loader tells
            self.require(*needed[i:])
        if path.endswith('.txt') and self.image_list is None:
            raise ValueError(
                f'{path} is a game log, which holds all splits; set image_list, e.g. to '
                'referit_val_imlist.txt'
            )
        boxes = _read_json(self.bbox_file, list, 'region -> [x1, y1, x2, y2]')
        sizes = self.imsize_file and _read_json(
            self.imsize_file, list, 'picture -> [width, height]'
        )
        pictures = self.image_list and self._listed_pictures()
        seen = False
        for region, number, text, source in _expressions(path):
            name = f'{region.rpartition("_")[0]}.jpg'
            if pictures and name not in pictures:
                continue
            seen = True
            yield self._record(region, number, text, name, boxes, sizes, source)
        if not seen:
            raise ValueError(
                f'{path} has no expression in the pictures of {self.image_list}: the files are of '
                'different splits'
            )

    def _listed_pictures(self) -> set[str]:
        with open(self.image_list, encoding='utf-8', errors='replace') as f:
            return {f'{line.strip().removesuffix(".jpg")}.jpg' for line in f if line.strip()}

    def _record(
        self,
        region: str,
        number: int,
        text: Any,
        name: str,
        boxes: dict,
        sizes: dict | None,
        source: str,
    ) -> dict:
        try:
            text = text.decode('utf-8').strip() if isinstance(text, bytes) else text
        except UnicodeDecodeError as e:
            problem = f'encoding: byte {e.start + 1} of the expression is not UTF-8'
            return dict(source=source, problem=problem)
        if region not in boxes:
            return dict(
                source=source, problem=f'no box: region {region} is not in {self.bbox_file}'
            )
        common = dict(
            img_path=osp.join(self.image_dir, name), img_id=name, query_ids=[f'{region}_{number}']
        )
        if sizes:
            try:
                common['width'], common['height'] = (int(v) for v in sizes[name])
            except (KeyError, TypeError, ValueError):
                problem = f'no size: {self.imsize_file} has {sizes.get(name)!r} for {name}'
                return dict(source=source, problem=problem)
        return self.finish_record(common, boxes[region], text, source)


def _expressions(path: str) -> Iterator[tuple[str, int, Any, str]]:
    """Region, number of the expression within its region, expression, source."""
    if not path.endswith('.txt'):
        for region, texts in _read_json(path, list, 'region -> [expression, ...]').items():
            for i, text in enumerate(texts):
                yield region, i, text, f'{path}: region {region}, expression {i}'
        return
    counts: dict[str, int] = {}
    with open(path, 'rb') as f:
        for line_number, line in enumerate(f, 1):
            source = f'{path}:{line_number}'
            fields = line.strip().split(b'~')
            if fields == [b'']:
                continue
            region = fields[0].decode('ascii', 'replace').removesuffix('.jpg')
            if len(fields) < 2 or '_' not in region:
                raise ValueError(
                    f'{source} is not REGION.jpg~expression~x~y: {line[:80]!r}; take '
                    'RealGames.txt from its original source again'
                )
            number = counts[region] = counts.get(region, -1) + 1
            yield region, number, fields[1], source


def _read_json(path: str, kind: type, form: str) -> dict:
    """A JSON object whose values are all of one kind."""
    try:
        with open(path, encoding='utf-8') as f:
            content = json.load(f)
    except ValueError as e:  # also bytes that are not UTF-8
        raise ValueError(
            f'{path} is not valid JSON ({e}); take the file from its original source again'
        ) from e
    wrong = None
    if not isinstance(content, dict):
        wrong = kind_of(content)
    elif not all(isinstance(v, kind) for v in content.values()):
        key = next(k for k, v in content.items() if not isinstance(v, kind))
        wrong = f'{content[key]!r} for {key!r}'
    if wrong:
        raise ValueError(f'{path} should be a JSON object {form}, but holds {wrong}')
    return content
