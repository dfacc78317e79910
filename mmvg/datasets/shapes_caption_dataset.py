import random

import numpy as np
from mmdet.registry import DATASETS

from .shapes import CLASSES, RELATION_NAMES, sample_scene, write_caption
from .shapes.scene import KINDS
from .shapes_grounding_dataset import ShapesGroundingDataset

# What the parent asks for, and a caption fixes: its phrases, all of them, as its relations say.
_DECIDED_BY_CAPTION = ('types', 'queries_per_scene', 'constant_query', 'max_queries')


@DATASETS.register_module()
class ShapesCaptionDataset(ShapesGroundingDataset):
    """Generated scenes with captions and detections, for learning without boxes.

    A sample is a caption; its queries are the phrases, each naming a shape by its kind and some
    attributes. Read alone, about one in three fits several shapes; with the relations of the caption
    each means one. ``relations`` lists (subject, object, text, [category]). ``query_types`` tells
    phrases that are clear 'alone' from those clear 'in context'.

    The detections are those of a poor detector: every shape is found several times, with boxes that
    are off, among boxes of nothing; the category is the kind of the shape, or a wrong one. They are
    given as ``proposals``, a dict of ``bboxes`` M x 4, ``scores`` M and ``labels`` M (index into
    ``KINDS``), shuffled.

    Args:
        per_shape (int): Boxes of each shape.
        distractors (int): Boxes of nothing.
        jitter (float): Standard deviation of the box centre, and of the logarithm of width and
            height, as a share of the size.
        label_noise (float): Share of shapes' boxes with a random category.
        **kwargs: As of :class:`ShapesGroundingDataset`, but for ``types``, ``queries_per_scene``,
            ``constant_query`` and ``max_queries``: the caption decides on the phrases.

    Raises:
        ValueError: If one of these four is given.
    """

    def __init__(
        self,
        *args,
        num_shapes: tuple[int, int] = (3, 5),
        per_shape: int = 4,
        distractors: int = 4,
        jitter: float = 0.2,
        label_noise: float = 0.15,
        **kwargs,
    ) -> None:
        refused = [name for name in _DECIDED_BY_CAPTION if kwargs.get(name) is not None]
        if refused:
            raise ValueError(
                f'{type(self).__name__} takes no {", ".join(refused)}: the phrases are those of '
                'the caption; leave it out, or choose ShapesGroundingDataset'
            )
        self.per_shape = per_shape
        self.distractors = distractors
        self.jitter = jitter
        self.label_noise = label_noise
        super().__init__(*args, num_shapes=num_shapes, **kwargs)

    def _sample(self, index: int) -> dict:
        rng = random.Random(f'{self.seed}/{self.split}/caption {index}')
        caption = None
        while caption is None:
            scene = sample_scene(rng, self.side, self.num_shapes)
            caption = write_caption(rng, scene)
        return dict(
            img_path=f'shapes_{self.split}_{index:06d}.png',
            img_id=index,
            height=self.side,
            width=self.side,
            caption=caption.text,
            queries=list(caption.phrases),
            query_spans=list(caption.spans),
            query_types=['alone' if clear else 'in context' for clear in caption.alone],
            relations=[
                (i, j, name, [RELATION_NAMES.index(name)]) for i, j, name in caption.relations
            ],
            bboxes=[shape.bbox for shape in caption.shapes],
            scene=scene.to_dict(),
            source=f'generated caption {self.split}/{index} (seed {self.seed})',
        )

    def get_data_info(self, idx: int) -> dict:
        """The record of sample ``idx`` with its picture, ``img``, and its ``proposals``."""
        info = super().get_data_info(idx)
        info['proposals'] = self._detect(info['instances'], info['img_id'])
        return info

    def _detect(self, instances: list[dict], index: int) -> dict[str, np.ndarray]:
        rng = np.random.RandomState(
            random.Random(f'{self.seed}/{self.split}/boxes {index}').getrandbits(32)
        )
        shapes = [s for s in instances for _ in range(self.per_shape)]
        corners = np.array([s['bbox'] for s in shapes]).reshape(-1, 2, 2)
        centres, sizes = corners.mean(1), corners[:, 1, 0] - corners[:, 0, 0]  # shapes are square
        centres += rng.randn(len(shapes), 2) * self.jitter * sizes[:, None]
        sides = sizes[:, None] * np.exp(rng.randn(len(shapes), 2) * self.jitter)
        kinds = [CLASSES[s['bbox_label']].split()[-1] for s in shapes]
        labels = np.array([KINDS.index(kind) for kind in kinds])
        wrong = rng.rand(len(shapes)) < self.label_noise
        labels[wrong] = rng.randint(len(KINDS), size=wrong.sum())
        nothing = self.distractors
        centres = np.concatenate([centres, rng.rand(nothing, 2) * self.side])
        sides = np.concatenate([sides, self.side * rng.uniform(0.2, 0.45, (nothing, 2))])
        labels = np.concatenate([labels, rng.randint(len(KINDS), size=nothing)])
        boxes = np.concatenate([centres - sides / 2, centres + sides / 2], 1).clip(0, self.side)
        order = rng.permutation(len(boxes))
        return dict(
            bboxes=boxes[order].astype(np.float32),
            scores=rng.uniform(0.3, 1.0, len(boxes)).astype(np.float32),
            labels=labels[order],
        )
