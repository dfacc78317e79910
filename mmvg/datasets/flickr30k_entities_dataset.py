import os.path as osp
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mmdet.registry import DATASETS
from mmengine.logging import MMLogger

from .boxes import around
from .entities_files import EntityBoxes, MarkedPhrase, parse_sentence, read_annotation
from .transvg_index import TransVGIndexDataset

_FROM = 'github.com/BryanPlummer/flickr30k_entities'
_ORIGIN = {
    'split list': ('train.txt, val.txt or test.txt: one picture number per line', _FROM),
    'annotation folder': ('the folder of the files IMAGE.xml of annotations.zip', _FROM),
    'sentence folder': ('the folder of the files IMAGE.txt of annotations.zip', _FROM),
    'index': (
        'a TransVG index file, e.g. flickr/flickr_val.pth of the archive data.tar',
        'the data section of github.com/djiajunustc/TransVG',
    ),
    'pictures': (
        'the folder of the 31,783 Flickr30k pictures (4.4 GB)',
        'shannon.cs.illinois.edu/DenotationGraph, which asks for a form',
    ),
}
# Stored boxes name the first and the last pixel, counted from 1.
_SHIFTS = dict(stored=(0, 0, 0, 0), official=(-1, -1, -1, -1), exact=(-1, -1, 0, 0))


@DATASETS.register_module()
class Flickr30kEntitiesDataset(TransVGIndexDataset):
    """Flickr30k Entities from the official files or from TransVG's index files.

    ``layout='entities'`` reads a split list, ``Annotations/*.xml`` and ``Sentences/*.txt``: one
    sample per caption, its queries being the phrases that have a box. Beside the usual keys such a
    record has ``caption``, ``sentence_id`` (0 to 4), ``query_spans`` (start and end of each phrase
    in the words of the caption, end exclusive), ``query_types`` (the first type of each phrase) and
    ``query_ids`` (chains). Phrases without a box (not visible, scene, no box) and captions without
    a phrase are left out and counted in the log.

    ``layout='transvg'`` reads the index files of the REC protocol: one sample per phrase, one box
    around all boxes of its chain. ``one_phrase=True`` makes the same samples of the official files,
    equal in number, order within a caption and boxes; but the phrases of the index had stop words
    and hyphens removed ("group people").

    Example::

        dict(type='Flickr30kEntitiesDataset', data_root='data/flickr30k', ann_file='val.txt',
             data_prefix=dict(img='flickr30k-images/'))
        dict(type='Flickr30kEntitiesDataset', layout='transvg', data_root='data',
             ann_file='flickr/flickr_val.pth', data_prefix=dict(img='flickr30k-images/'))

    Args:
        ann_file (str | Sequence[str]): The split list, or index files.
        layout (str): ``'entities'`` or ``'transvg'``.
        annotation_dir (str): Folder of the XML files (entities).
        sentence_dir (str): Folder of the captions (entities).
        multi_box (str): Truth for a phrase of several boxes (entities). ``'union'``: the box around
            them, as in TransVG and ReIR. ``'any'``: the record has ``all_bboxes``, too, and
            :class:`GroundingMetric` takes the best of them; training sees the union.
        one_phrase (bool): One sample per phrase instead of one per caption (entities).
        box_origin (str): ``'stored'``: x1 y1 x2 y2 as in the files, as TransVG takes them.
            ``'official'``: less 1, as the official parser does, which makes a box one pixel too
            small (spec of ReIR 1.2). ``'exact'``: 1 less for x1 and y1 only, so that the box covers
            its pixels.
        truncate_boxes (bool): As of :class:`TransVGIndexDataset`.
        **kwargs: As of :class:`TransVGIndexDataset`.

    Raises:
        FileNotFoundError: If a file is absent; the message says what it is and where it comes from.
        ValueError: If a file is not what it should be. Errors of one picture or caption follow
            ``invalid``.
    """

    official_layout = 'entities'
    row_parts = (3,)
    origin = _ORIGIN
    path_arguments = ('annotation_dir', 'sentence_dir')

    def __init__(
        self,
        ann_file: str | Sequence[str],
        layout: str = 'entities',
        annotation_dir: str = 'Annotations',
        sentence_dir: str = 'Sentences',
        multi_box: str = 'union',
        one_phrase: bool = False,
        box_origin: str = 'stored',
        **kwargs,
    ) -> None:
        if multi_box not in ('union', 'any'):
            raise ValueError(f"multi_box must be 'union' or 'any', got {multi_box!r}")
        if box_origin not in _SHIFTS:
            raise ValueError(f'box_origin must be one of {", ".join(_SHIFTS)}, got {box_origin!r}')
        if layout == 'transvg' and (multi_box == 'any' or box_origin == 'official'):
            raise ValueError(
                "multi_box='any' and box_origin='official' need layout='entities': index files "
                'hold unions of boxes, which the released code takes as stored'
            )
        self.annotation_dir = annotation_dir
        self.sentence_dir = sentence_dir
        self.multi_box = multi_box
        self.one_phrase = one_phrase
        super().__init__(ann_file, layout, box_shift=_SHIFTS[box_origin], **kwargs)

    def official_records(self, path: str) -> Iterator[dict]:
        """One record per caption, or per phrase, in the order of the split list."""
        needed = [
            (path, 'split list'),
            (self.annotation_dir, 'annotation folder'),
            (self.sentence_dir, 'sentence folder'),
            (self.image_dir, 'pictures'),
        ]
        for i in range(3):  # of pictures, the loader tells
            self.require(*needed[i:])
        left_out = Counter()
        for image_id in self._listed_images(path):
            yield from self._image_records(image_id, left_out)
        if left_out:
            MMLogger.get_current_instance().info(
                f'{path}: left out '
                + ', '.join(f'{count} {what}' for what, count in sorted(left_out.items()))
            )

    @staticmethod
    def _listed_images(path: str) -> Iterator[str]:
        seen = set()
        with open(path, encoding='utf-8', errors='replace') as f:
            for number, line in enumerate(f, 1):
                image_id = line.strip().removesuffix('.jpg')
                if not image_id:
                    continue
                if not re.fullmatch(r'[\w.-]+', image_id) or image_id in seen:
                    what = (
                        'is listed twice' if image_id in seen else 'is not the number of a picture'
                    )
                    raise ValueError(
                        f'{path}:{number}: {image_id[:80]!r} {what}; give the train.txt, val.txt '
                        'or test.txt of Flickr30k Entities'
                    )
                seen.add(image_id)
                yield image_id

    def _image_records(self, image_id: str, left_out: Counter) -> Iterator[dict]:
        annotation_file = osp.join(self.annotation_dir, f'{image_id}.xml')
        sentence_file = osp.join(self.sentence_dir, f'{image_id}.txt')
        try:
            entities = read_annotation(annotation_file)
            with open(sentence_file, 'rb') as f:
                lines = f.read().splitlines()
        except FileNotFoundError as e:
            problem = f'missing file: {e.filename} does not exist, but annotations.zip has it'
            yield dict(source=f'picture {image_id}', problem=problem)
            return
        except ValueError as e:
            yield dict(source=f'picture {image_id}', problem=f'malformed XML: {e}')
            return
        image = dict(
            img_path=osp.join(self.image_dir, f'{image_id}.jpg'),
            img_id=f'{image_id}.jpg',
            height=entities.height,
            width=entities.width,
        )
        if not lines:
            yield dict(source=sentence_file, problem='no caption: the file is empty')
        for i, line in enumerate(lines):
            source = f'{sentence_file}:{i + 1}'
            try:
                caption, phrases = parse_sentence(line.decode('utf-8-sig'))
            except UnicodeDecodeError as e:
                problem = f'encoding: byte {e.start + 1} of the line is not UTF-8'
                yield dict(source=source, problem=problem)
            except ValueError as e:
                yield dict(source=source, problem=f'malformed sentence: {e}')
            else:
                phrases = self._boxed(phrases, entities, left_out)
                record = dict(image, caption=caption, sentence_id=i, source=source)
                yield from self._caption_records(record, phrases, entities)

    def _caption_records(
        self, record: dict, phrases: list[MarkedPhrase], entities: EntityBoxes
    ) -> Iterator[dict]:
        source = record['source']
        if not self.one_phrase:
            if phrases:
                yield {**record, **self._queries(phrases, entities, source)}
            return
        for i, phrase in enumerate(phrases):
            source = f'{record["source"]}, phrase {i}'
            yield {**record, **self._queries([phrase], entities, source), 'source': source}

    @staticmethod
    def _boxed(
        phrases: list[MarkedPhrase], entities: EntityBoxes, left_out: Counter
    ) -> list[MarkedPhrase]:
        kept = []
        for phrase in phrases:
            if phrase.chain in entities.boxes:
                kept.append(phrase)
                continue
            unlisted = 'not visible' if phrase.chain == '0' else 'not annotated'
            reason = entities.without_box.get(phrase.chain, unlisted)
            left_out[f'phrases ({reason})'] += 1
        if not kept:
            left_out['captions without a phrase that has a box'] += 1
        return kept

    def _queries(self, phrases: list[MarkedPhrase], entities: EntityBoxes, source: str) -> dict:
        answers = [
            [self.parse_box(box) for box in entities.boxes[phrase.chain]] for phrase in phrases
        ]
        queries = dict(
            queries=[self.parse_query(phrase.text) for phrase in phrases],
            bboxes=[around(boxes) for boxes in answers],
            query_ids=[phrase.chain for phrase in phrases],
            query_types=[phrase.types[0] for phrase in phrases],
            query_spans=[(phrase.start, phrase.end) for phrase in phrases],
        )
        return {**queries, 'all_bboxes': answers} if self.multi_box == 'any' else queries
