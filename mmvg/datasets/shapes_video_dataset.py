import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from mmdet.registry import DATASETS

from .shapes import CLASSES, PREDICATES, Sentence, Video, sample_video, write_sentences
from .video_grounding_dataset import VideoGroundingDataset


@DATASETS.register_module()
class ShapesVideoDataset(VideoGroundingDataset):
    """Generated videos of moving shapes with sentences about what two of them do for a while.

    Nothing is read from disk: video i of a split follows from ``(seed, split, i)``. In a stretch of
    the video, the event, one shape does something to another one that it does not do before or
    after: one of :data:`PREDICATES`. Of a video, there is a caption ('a red circle chases a small
    box.', squares being boxes) and one or two questions ('what chases a box?', 'what does a circle
    chase?'), in the manner of VidSTG. Phrases name the kind and a random part of the looks. Most fit
    several shapes: what they do decides. With it, every sentence means one shape and one stretch of
    time. Without looking, no span is much better than the whole video: see
    :meth:`best_fixed_span`.

    A record has ``video``, whose frames are drawn on demand. With the truth it also has

    - ``tracks``: boxes of all S shapes in all frames, S x F x 4, and ``labels``, S, of
      :data:`CLASSES`, for experiments with perfect detections;
    - ``video.event``: who does what to whom and when;
    - in each of ``tubes``: ``track``, the row of ``tracks`` that is meant; ``predicate``; ``alone``,
      whether the phrase for the target would be understood without the rest.

    Args:
        num_videos (int): Number of videos.
        split (str): Any name; different names give different videos.
        seed (int): Seed of the generator.
        side (int): Side of the square picture in pixels.
        num_frames (int): Frames per video, F. Longer videos are slower.
        fps (float): Frames per second that the records state.
        num_shapes (tuple[int, int]): Least and largest number of shapes in a video.
        num_questions (tuple[int, int]): Least and largest number of questions per video, 0 to 2.
        event_share (tuple[float, float]): Least and largest length of the event as a share of F.
        predicates (Sequence[str]): What may happen, equally often.
        split_types (bool): Rate sentences apart whose phrase fits one shape only: types are
            'declarative_clear', 'declarative_unclear' and so on.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(
        self,
        *args,
        num_videos: int = 1000,
        split: str = 'train',
        seed: int = 0,
        side: int = 64,
        num_frames: int = 32,
        fps: float = 8.0,
        num_shapes: tuple[int, int] = (3, 5),
        num_questions: tuple[int, int] = (1, 2),
        event_share: tuple[float, float] = (0.25, 0.6),
        predicates: Sequence[str] = tuple(PREDICATES),
        split_types: bool = False,
        **kwargs,
    ) -> None:
        unknown = set(predicates) - set(PREDICATES)
        if unknown or not predicates:
            raise ValueError(
                f'unknown predicates {sorted(unknown)}; choose at least one of {tuple(PREDICATES)}'
            )
        if not 0 < event_share[0] <= event_share[1] <= 1 or event_share[0] * num_frames < 4:
            raise ValueError(
                f'event_share must be two shares in order that make at least 4 of {num_frames} '
                f'frames, got {event_share}'
            )
        if num_shapes[0] < 2 or not 0 <= num_questions[0] <= num_questions[1] <= 2:
            raise ValueError(
                f'at least 2 shapes and at most 2 questions, got num_shapes={num_shapes} and '
                f'num_questions={num_questions}'
            )
        self.num_videos = num_videos
        self.split = split
        self.seed = seed
        self.side = side
        self.num_frames = num_frames
        self.fps = fps
        self.num_shapes = tuple(num_shapes)
        self.num_questions = tuple(num_questions)
        self.event_share = tuple(event_share)
        self.predicates = tuple(predicates)
        self.split_types = split_types
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> Iterator[dict]:
        """Sample the videos and their sentences; pictures are drawn on demand."""
        return (self._sample(i) for i in range(self.num_videos))

    def _sample(self, index: int) -> dict:
        rng = random.Random(f'{self.seed}/{self.split}/video {index}')
        predicate, sentences = rng.choice(self.predicates), None
        while sentences is None:
            video = sample_video(
                rng, predicate, self.side, self.num_frames, self.num_shapes, self.event_share
            )
            sentences = write_sentences(rng, video, rng.randint(*self.num_questions))
        name = f'shapes_{self.split}_{index:06d}'
        record = dict(
            video_id=name,
            video_path=f'{name}.mp4',
            fps=self.fps,
            num_frames=self.num_frames,
            width=self.side,
            height=self.side,
            segment=(0, self.num_frames),
            queries=[s.text for s in sentences],
            query_ids=[f'{name}_{i}' for i in range(len(sentences))],
            query_types=[s.type + self._clearness(s) for s in sentences],
            source=f'generated video {self.split}/{index} (seed {self.seed})',
            video=video if self.with_truth else replace(video, event=None),
        )
        if self.with_truth:
            record['tubes'] = [_tube(video, s) for s in sentences]
            record['tracks'] = video.tracks
            record['labels'] = np.array([CLASSES.index(s.category) for s in video.shapes])
        return record

    def _clearness(self, sentence: Sentence) -> str:
        if not (self.split_types and self.with_truth):
            return ''
        return '_clear' if sentence.alone else '_unclear'

    def render(self, index: int, frame_ids: Sequence[int]) -> np.ndarray:
        """Frames of sample ``index``: uint8 BGR, len(frame_ids) x side x side x 3."""
        video = self.get_data_info(index)['video']
        return np.stack([video.frame(i) for i in frame_ids])

    def best_fixed_span(self) -> tuple[tuple[int, int], float]:
        """The span [s, t) that, given as every answer, has the largest m_tIoU; and that, 0 to 1.

        What any model can do about time without looking. Needs the truth.
        """
        spans = [t['span'] for i in range(len(self)) for t in self.get_data_info(i)['tubes']]
        begin, end = np.array(spans).T[..., None, None]
        s, t = np.mgrid[: self.num_frames, 1 : self.num_frames + 1]
        shared = np.minimum(end, t) - np.maximum(begin, s)
        hull = np.maximum(end, t) - np.minimum(begin, s)
        mean = np.where(t > s, shared.clip(0) / hull, 0).mean(0)
        best = np.unravel_index(mean.argmax(), mean.shape)
        return (int(s[best]), int(t[best])), float(mean[best])


def _tube(video: Video, sentence: Sentence) -> dict:
    event = video.event
    return dict(
        span=(event.begin, event.end),
        bboxes=video.tracks[sentence.target, event.begin : event.end],
        track=sentence.target,
        predicate=event.predicate,
        alone=sentence.alone,
    )
