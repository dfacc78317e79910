from collections.abc import Callable, Sequence
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmdet.registry import TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device

from mmvg.text import build_relation_parser
from mmvg.visualization.grounding_visualizer import draw_sample

from .box_source import build_box_source
from .caption_reader import CaptionReader
from .inference import (
    build_model,
    find_pipeline,
    free_path,
    is_video_model,
    own_config,
    pair_texts,
    write_predictions,
)

ImageInput = str | Path | np.ndarray
_IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')


class GroundingInferencer:
    """Finds the box of each query in pictures given as files or arrays.

    Models of captions (ReIR) find a box for each phrase of a text. Phrases are marked with brackets,
    ``'[a man] rides [a bike]'``; in a text without any they are found by rule, or, if the model knows
    no relations, the text is one phrase. Such models choose among boxes: those of a detector, or of
    the proposal file of the config.

    Written plainly: mmengine's ``BaseInferencer`` pairs each input with one output and picks models
    by metafile weights, so all of its steps would have to be replaced.

    Example:
        >>> inferencer = GroundingInferencer('transvg_r50_refcoco', 'transvg_r50.pth')
        >>> inferencer('street.jpg', ['the red car', 'man on the left'])['predictions'][0]['bboxes']
        [[312.4, 88.0, 590.1, 301.7], [20.3, 102.9, 88.8, 330.6]]

    Args:
        model (str | Path | Config): Path of a config, name of one of mmvg's, or a loaded config.
        weights (str, optional): Checkpoint. Without one the model is random, which is logged.
        device (str, optional): E.g. ``'cuda:0'``. Defaults to the best available.
        detector (tuple[str, str], optional): Config (a file, or the name of one of mmdet's or mmvg's)
            and checkpoint of a detector, for models that choose among its boxes.

    Raises:
        FileNotFoundError: If the config or the checkpoint does not exist.
        ValueError: If the checkpoint cannot be read or lacks weights of the model, the model is one of
            videos, or a detector is missing or of no use.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | None = None,
        device: str | None = None,
        detector: tuple[str, str] | None = None,
    ) -> None:
        self.cfg = cfg = own_config(model)
        if is_video_model(cfg):
            raise ValueError(
                f'{cfg.filename or "the config"} is of a model of videos; give --videos, in Python take '
                'VideoGroundingInferencer'
            )
        self.device = device or get_device()
        self.model = build_model(cfg, weights).to(self.device).eval()
        steps = find_pipeline(cfg)
        self.boxes = build_box_source(steps, self.model, detector, self.device)
        self.reader = _build_reader(steps, self.model)
        self.loader, self.pipeline = _build_pipeline(steps)

    def __call__(
        self,
        images: ImageInput | Sequence[ImageInput],
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        batch_size: int = 1,
        out_dir: str | None = None,
        show: bool = False,
    ) -> dict:
        """Ground texts in images.

        ====================  =====================  ===================================
        images                texts                  meaning
        ====================  =====================  ===================================
        one                   one or N               all texts, the image encoded once; for models of
                                                     captions one prediction per text
        N                     one                    the text on every image
        N                     N                      text i on image i
        N                     N lists of texts       list i on image i
        ====================  =====================  ===================================

        Args:
            images: A file, a folder (its pictures in name order), an array (H x W x 3 uint8,
                **BGR** as from ``mmcv.imread``, or H x W grey), or a list of files and arrays.
            texts: One query or several, see the table.
            batch_size (int): Images per forward pass.
            out_dir (str, optional): Write an annotated picture (jpg) per prediction there, and
                ``predictions.json``. Pictures are named after image and queries, so that other
                queries on the same image do not overwrite them.
            show (bool): Open each picture in a window.

        Returns:
            dict: ``predictions``: per image a JSON-serialisable ``dict(image, queries, bboxes,
            scores)`` with K xyxy boxes in px of the original image; for models of captions per text,
            with ``caption`` and ``spans`` (first word and one after the last of each phrase). With
            ``out_dir`` also ``picture``, the path of the file. ``visualization``: these paths.

        Raises:
            FileNotFoundError: If an image does not exist.
            ValueError: If the numbers of images and texts do not fit, or a text is empty.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        images = _as_image_list(images)
        jobs = self._read(pair_texts(len(images), texts))
        predictions, pictures, boxes = [], [], {}
        for start in range(0, len(jobs), batch_size):
            batch = jobs[start : start + batch_size]
            records = [self._load(images[i], i, fields, boxes) for i, fields in batch]
            originals = [record['img'] for record in records]
            for sample, image in zip(self._forward(records), originals, strict=True):
                predictions.append(_to_json(sample))
                if out_dir is not None or show:
                    picture = draw_sample(
                        np.ascontiguousarray(image[..., ::-1]), sample, draw_gt=False
                    )
                    if out_dir is not None:
                        _write_picture(picture, out_dir, predictions[-1], pictures)
                    if show:
                        mmcv.imshow(picture[..., ::-1], predictions[-1]['image'])
        if out_dir is not None:
            write_predictions(predictions, out_dir)
        return dict(predictions=predictions, visualization=pictures)

    def _read(self, texts: list[list[str]]) -> list[tuple[int, dict]]:
        """Number of the image and text fields of every sample."""
        if self.reader is None:
            return [(i, dict(queries=list(queries))) for i, queries in enumerate(texts)]
        return [(i, self.reader(caption)) for i, queries in enumerate(texts) for caption in queries]

    def _load(self, image: ImageInput, index: int, fields: dict, boxes: dict) -> dict:
        """The record that a data set would give, with its picture decoded.

        ``boxes`` keeps those of the images that were loaded before.
        """
        record = dict(img_id=index, dataset_name='', **fields)
        if isinstance(image, np.ndarray):
            record.update(img=image, img_path=f'array_{index:04d}')
        else:
            record.update(img_path=str(image))
        record = self.loader(record)
        if self.boxes is not None:
            if index not in boxes:
                boxes[index] = self.boxes(record)
            record['proposals'] = boxes[index]
        return record

    @torch.no_grad()
    def _forward(self, records: Sequence[dict]) -> list[DetDataSample]:
        return self.model.test_step(pseudo_collate([self.pipeline(record) for record in records]))


def _build_pipeline(steps: list[dict]) -> tuple[Callable, Callable]:
    """Image loader and the rest of a pipeline, without what the inferencer does itself."""
    loading = [step for step in steps if step['type'].startswith('LoadGroundingImage')]
    # Generated data may come without a loader, but their models answer on files here. Every
    # picture gets an answer or an error: none may be left out.
    load = loading[0] if loading else dict(type='LoadGroundingImage')
    loader = TRANSFORMS.build(dict(load, ignore_empty=False))
    skipped = ('LoadQueryAnnotations', 'LoadBoxProposals', 'LoadRelations')
    rest = [step for step in steps if step not in loading and step['type'] not in skipped]
    return loader, Compose(rest)


def _build_reader(steps: list[dict], model: torch.nn.Module) -> Callable[[str], dict] | None:
    """What finds the phrases of a text; None for models whose texts are queries."""
    types = [step['type'] for step in steps]
    if 'EncodePhrases' not in types:
        return None
    relating = steps[types.index('LoadRelations')] if 'LoadRelations' in types else {}
    knows_relations = bool(relating) or getattr(model, 'neck', None) is not None
    return CaptionReader(
        build_relation_parser(relating.get('parser', 'rules')), find_phrases=knows_relations
    )


def _as_image_list(images: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
    if isinstance(images, (str, Path)) and Path(images).is_dir():
        folder = Path(images)
        images = sorted(p for p in folder.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)
        if not images:
            raise FileNotFoundError(
                f'folder {folder} has no picture ({", ".join(_IMAGE_SUFFIXES)})'
            )
    if isinstance(images, (str, Path, np.ndarray)):
        images = [images]
    images = [_check_image(image, i) for i, image in enumerate(images)]
    if not images:
        raise ValueError('no image given')
    return images


def _check_image(image: ImageInput, index: int) -> ImageInput:
    if isinstance(image, (str, Path)):
        if not Path(image).is_file():
            raise FileNotFoundError(
                f'image {image} does not exist; give the path of a local file or folder'
            )
        return image
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = f'{image.dtype} array' if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f'image {index} is a {kind}; give a path or a uint8 array H x W x 3 (BGR)')
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f'image {index} has shape {image.shape}; expected H x W x 3 (BGR) or H x W (grey)'
        )
    return image


def _to_json(sample: DetDataSample) -> dict:
    pred = sample.pred_instances
    answers = dict(
        image=sample.img_path,
        queries=list(sample.queries),
        bboxes=pred.bboxes.tolist(),
        scores=pred.scores.tolist(),
    )
    if sample.get('caption') is not None:
        answers.update(caption=sample.caption, spans=[list(span) for span in sample.query_spans])
    return answers


def _write_picture(
    picture: np.ndarray, out_dir: str, prediction: dict, pictures: list[str]
) -> None:
    """Write the picture of a prediction, set its path, and append that to those of the others."""
    texts = list(prediction['queries'])
    if 'caption' in prediction:
        texts.insert(0, prediction['caption'])
    path = free_path(out_dir, prediction['image'], texts, '.jpg', pictures)
    mmcv.imwrite(picture[..., ::-1], path)
    prediction['picture'] = path
    pictures.append(path)
