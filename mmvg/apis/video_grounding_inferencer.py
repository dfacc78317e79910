"""Sentences about videos in, tubes, annotated clips and sheets of key frames out."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.logging import MMLogger

from mmvg.datasets.video_file import import_av
from mmvg.datasets.video_reader import VideoReader
from mmvg.datasets.video_regions import VideoRegions
from mmvg.visualization.clip_writer import ClipWriter
from mmvg.visualization.tube_drawing import TubeDrawing

from .inference import (
    build_model,
    find_pipeline,
    free_path,
    is_video_model,
    own_config,
    pair_texts,
    write_predictions,
)
from .region_source import build_region_extractor

VideoInput = str | Path
_PIECE = 2**27  # bytes of frames that are decoded at once for the clips


class VideoGroundingInferencer:
    """Finds when and where in a video the thing is that a sentence means.

    The frames that the config's test pipeline chooses are seen by a detector, and its boxes linked
    into tubes, once for all sentences about a video.

    Example:
        >>> detector = 'faster-rcnn_r101_fpn_2x_coco', 'faster_rcnn_r101.pth'
        >>> inferencer = VideoGroundingInferencer('vcma_r101_vidstg', 'vcma.pth', detector=detector)
        >>> answer = inferencer('dogs.mp4', 'a dog runs after a ball')['predictions'][0]
        >>> answer['span'], answer['span_seconds'], answer['bboxes'][0]
        ((75, 140), (2.5, 4.67), [312.4, 88.0, 590.1, 301.7])

    Args:
        model (str | Path | Config): Path of a config, name of one of mmvg's, or a loaded config. Its
            ``region_extractor`` holds the settings with which its detections were made.
        weights (str, optional): Checkpoint. Without one the model is random, which is logged.
        device (str, optional): E.g. ``'cuda:0'``. Defaults to the best available.
        detector (tuple[str, str]): Config (a file, or the name of one of mmdet's or mmvg's) and
            checkpoint (``'none'``: random weights) of the detector that the model was trained with.

    Raises:
        FileNotFoundError: If a config or checkpoint does not exist.
        ValueError: If they are of no use, or the detector is missing.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | None = None,
        device: str | None = None,
        detector: tuple[str, str] | None = None,
    ) -> None:
        self.cfg = cfg = own_config(model)
        if not is_video_model(cfg):
            raise ValueError(
                f'{cfg.filename or "the config"} is of a model of pictures: its test pipeline has no '
                'SampleFrames; give pictures (--images), or the config of a model of videos, such as '
                'vcma_shapes'
            )
        if detector is None:
            raise ValueError(
                'this model chooses among tubes of detections; give the detector that it was trained '
                'with: --detector CONFIG CHECKPOINT, in Python detector=(config, checkpoint)'
            )
        self.device = device or get_device()
        steps = find_pipeline(cfg)
        linking = next((step for step in steps if step['type'] == 'LoadTubes'), {})
        # Tubes are those that the pipeline would make of stored detections.
        cfg.model.update({k: linking[k] for k in ('linker', 'num_clips') if k in linking})
        self.model = build_model(cfg, weights)
        extractor, meta = build_region_extractor(
            *detector, self.device, **cfg.get('region_extractor', {})
        )
        _compare(meta, linking.get('region_file'))
        self.model.region_extractor = extractor
        self.model.to(self.device).eval()
        self.pipeline = Compose(_with_frames(steps))
        self._fits = False  # the detector's features, which shows when there are some

    def __call__(
        self,
        videos: VideoInput | Sequence[VideoInput],
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        out_dir: str | None = None,
        fps: float | None = None,
    ) -> dict:
        """Ground sentences in videos.

        One video takes one sentence or N. N videos take one sentence for all, one each, or a list of
        sentences each.

        Args:
            videos: A video file, a folder with one picture per frame, or a list of them.
            texts: See above.
            out_dir (str, optional): Write an annotated clip (mp4) and a sheet of key frames (png) per
                prediction there, and ``predictions.json``. They are named after video and sentence.
            fps (float, optional): Frames per second of folders, which do not tell it.

        Returns:
            dict: ``predictions``, one JSON-serialisable dict per video and sentence: ``video``,
            ``query``, ``target`` (which words of the query are looked for), ``span`` (first frame and
            one after the last), ``span_seconds``, ``bboxes`` (xyxy in px, for each frame of the span),
            ``score``, ``fps``, ``num_frames``, ``width``, ``height``. With ``out_dir`` also ``clip``
            and ``sheet``, the paths of the files. ``visualization``: the paths of the clips.

        Raises:
            FileNotFoundError: If a video does not exist.
            ImportError: If PyAV is needed and not installed.
            ValueError: If a video cannot be read, its frame rate is unknown, or texts do not fit.
        """
        videos = [videos] if isinstance(videos, (str, Path)) else list(videos)
        if not videos:
            raise ValueError('no video given')
        paired = pair_texts(len(videos), texts, 'video')
        if out_dir is not None:
            import_av()  # before the work, not after it
        predictions, clips = [], []
        for video, queries in zip(videos, paired):
            found, times = self._ground(str(video), queries, fps)
            if out_dir is not None:
                _draw(found, times, Path(out_dir), fps, clips)
            predictions += found
        if out_dir is not None:
            write_predictions(predictions, out_dir)
        return dict(predictions=predictions, visualization=clips)

    def _ground(
        self, path: str, queries: list[str], fps: float | None
    ) -> tuple[list[dict], np.ndarray]:
        """Answers about a video, and its times (see :class:`TubeDrawing`)."""
        with VideoReader(path, fps) as video:
            if not video.fps:
                raise ValueError(
                    f'{path} does not tell its frame rate; give it: --fps 25, in Python fps=25'
                )
            about = dict(fps=video.fps, num_frames=video.num_frames)
            about.update(width=video.width, height=video.height)
            times = np.append(video.timestamps, video.timestamps[-1] + 1 / video.fps)
        packed = self.pipeline(
            dict(
                about,
                video_id=Path(path).stem,
                video_path=path,
                segment=(0, about['num_frames']),
                queries=queries,
                query_ids=list(range(len(queries))),
                dataset_name='',
            )
        )
        self._check_features(packed['inputs']['frames'][0])
        with torch.no_grad():
            (sample,) = self.model.test_step(pseudo_collate([packed]))
        return [
            dict(
                video=path,
                query=query,
                target=parsed['entities'][parsed['target']],
                span=tube['span'],
                span_seconds=tuple(round(float(times[i]), 3) for i in tube['span']),
                bboxes=tube['bboxes'][slice(*tube['span'])].astype(float).round(1).tolist(),
                score=tube['score'],
                **about,
            )
            for query, parsed, tube in zip(queries, sample.parsed, sample.pred_tubes, strict=True)
        ], times

    def _check_features(self, frame: torch.Tensor) -> None:
        """Before all frames go through a detector of another kind than the model's."""
        expected = self.cfg.model.tube_head.get('frame_dims')
        if self._fits or expected is None:
            return
        (regions,) = self.model.region_extractor([frame.permute(1, 2, 0).numpy()])
        if len(regions.frame_feature) != expected:
            raise ValueError(
                f'features of the detector have {len(regions.frame_feature)} numbers, those of the '
                f"model's own detector {expected}; give the detector that it was trained with, and "
                "the settings of its detections as region_extractor in the model's config"
            )
        self._fits = True


def _with_frames(steps: Sequence[ConfigDict]) -> list[dict]:
    """A pipeline in which frames are loaded, in place of the tubes of stored detections."""
    given = next((step for step in steps if step['type'] == 'LoadVideoFrames'), None)
    load = dict(given or dict(type='LoadVideoFrames'))
    rest = [step for step in steps if step['type'] not in ('LoadVideoFrames', 'LoadTubes')]
    place = [step['type'] for step in rest].index('SampleFrames') + 1
    return [*rest[:place], load, *rest[place:]]


def _compare(meta: dict, region_file: str | None) -> None:
    """Warn if the detections of the config's region file, where it is there, were made otherwise."""
    if not region_file or not (Path(region_file) / 'meta.json').is_file():
        return
    stored = VideoRegions.read_meta(Path(region_file))
    other = [
        f'{k} {stored[k]} (now {meta[k]})' for k in meta if k in stored and stored[k] != meta[k]
    ]
    if other:
        MMLogger.get_current_instance().warning(
            f'detections in {region_file} were made with {", ".join(other)}; a model that was trained '
            'on them wants the same of new videos'
        )


def _draw(
    answers: list[dict], times: np.ndarray, out_dir: Path, fps: float | None, clips: list[str]
) -> None:
    """Write the clips and sheets of answers about one video, decoding it once; set their paths, and
    append those of the clips to those of other videos."""
    out_dir.mkdir(parents=True, exist_ok=True)
    with VideoReader(answers[0]['video'], fps) as video, ExitStack() as stack:
        drawings, writers = [], []
        for answer in answers:
            clip = free_path(out_dir, answer['video'], [answer['query']], '.mp4', clips)
            answer.update(clip=clip, sheet=f'{clip.removesuffix(".mp4")}.png')
            clips.append(clip)
            drawing = TubeDrawing(
                answer['query'],
                answer['span'],
                answer['bboxes'],
                times,
                (video.width, video.height),
                f'score {answer["score"]:.2f}',
            )
            drawings.append(drawing)
            writer = ClipWriter(answer['clip'], drawing.clip_size, video.fps)
            writers.append(stack.enter_context(writer))
        wanted = {i for drawing in drawings for i in drawing.key_frames}
        kept = {}
        for frame_id, image in _frames(video):
            if frame_id in wanted:
                kept[frame_id] = image
            for drawing, writer in zip(drawings, writers):
                writer.add(drawing.clip_frame(image, frame_id), times[frame_id])
    for answer, drawing in zip(answers, drawings):
        mmcv.imwrite(drawing.sheet(kept)[..., ::-1], answer['sheet'])


def _frames(video: VideoReader):
    """(number, RGB picture) of all frames."""
    piece = max(1, _PIECE // (video.width * video.height * 3))
    for begin in range(0, video.num_frames, piece):
        ids = range(begin, min(begin + piece, video.num_frames))
        for frame_id, image in zip(ids, video.read(ids), strict=True):
            yield frame_id, np.ascontiguousarray(image[..., ::-1])
